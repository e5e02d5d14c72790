import json

import numpy as np
import pytest

from biomassters.uncertainty.error_model import CorrelationSums, ErrorModel, ErrorSums
from biomassters.uncertainty.totals import total_of_map


def estimated(errors, agb=100.0):
    """An error model from made-up chips of constant prediction."""
    sums, correlation = ErrorSums((50.0,)), CorrelationSums()
    predictions = [np.full(error.shape, agb) for error in errors]
    for predicted, error in zip(predictions, errors, strict=True):
        sums.update(predicted, predicted - error)
    for predicted, error in zip(predictions, errors, strict=True):
        correlation.update(*sums.moments().unbiased(predicted, predicted - error))
    return sums.model(correlation, 10.0, 0.9)


def test_a_model_survives_json():
    model = estimated([np.eye(8), np.ones((8, 8))])
    assert ErrorModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_independent_errors_are_found_independent():
    generator = np.random.default_rng(3)
    found = estimated([4 + generator.normal(0, 10, (32, 32)) for _ in range(30)])
    assert found.bias[1] == pytest.approx(4, abs=0.3)
    assert np.sqrt(found.bias_covariance[3]) == pytest.approx(10 / np.sqrt(30 * 32**2), rel=0.4)
    assert found.deviation[1] == pytest.approx(10, rel=0.03)
    assert found.correlation[0] == 1.0
    assert max(found.correlation[1:]) < 0.03
    assert found.distance_m[1] == pytest.approx(10, abs=2)


def test_what_a_chip_has_in_common_is_found_at_every_distance():
    generator = np.random.default_rng(4)
    found = estimated(
        [generator.normal(0, 6) + generator.normal(0, 8, (32, 32)) for _ in range(60)]
    )
    assert found.correlation[1:] == pytest.approx([0.36] * (len(found.correlation) - 1), abs=0.1)
    assert np.sqrt(found.bias_covariance[3]) == pytest.approx(6 / np.sqrt(60), rel=0.25)


def test_standard_errors_of_chips_are_as_large_as_their_errors():
    generator = np.random.default_rng(5)
    errors = [generator.normal(0, 6) + generator.normal(0, 8, (32, 32)) for _ in range(80)]
    found = estimated(errors)
    agb = np.full((32, 32), 100.0)
    expected = total_of_map(found, agb, np.ones(agb.shape, bool), 10.0).standard_error
    assert expected == pytest.approx(np.std([error.mean() for error in errors]), rel=0.2)


def two_chips(low, high, **options):
    """Chips with these errors at 10 Mg/ha, and five times as much at 100."""
    sums = ErrorSums((50.0,), **options)
    for error in (low, high):
        predicted = np.repeat([10.0, 100.0], 8)
        sums.update(predicted, predicted - error * np.repeat([1, 5], 8))
    return sums


def test_a_bias_is_shrunk_by_its_own_uncertainty():
    # Means 2 and 10, standard errors over two chips 1 and 5: b * b^2 / (b^2 + s^2).
    sums = two_chips(1.0, 3.0)
    assert sums.bias_covariance() == pytest.approx(np.array([[1.0, 5.0], [5.0, 25.0]]))
    assert sums.bias() == pytest.approx([2 * 4 / 5, 10 * 100 / 125])
    chance = two_chips(-3.0, 3.5)
    assert np.abs(chance.bias()) == pytest.approx(np.abs(chance.mean_error()), abs=1.3)
    assert (np.abs(chance.bias()) < 0.01 * np.abs(chance.mean_error())).all()


def test_the_covariance_of_the_bias_is_what_a_bootstrap_over_chips_gives():
    generator = np.random.default_rng(8)
    chips = []
    for _ in range(40):
        predicted = generator.uniform(0, 100, 200)
        chips.append((predicted, predicted - generator.normal(2, 4) * predicted / 50))
    drawn = []
    for _ in range(800):
        sums = ErrorSums((50.0,))
        for number in generator.integers(0, 40, 40):
            sums.update(*chips[number])
        drawn.append(sums.mean_error())
    sums = ErrorSums((50.0,))
    for chip in chips:
        sums.update(*chip)
    np.testing.assert_allclose(sums.bias_covariance(), np.cov(np.array(drawn).T), rtol=0.15)


def test_labels_that_are_faults_do_not_rule_the_second_moments():
    generator = np.random.default_rng(2)
    predicted = np.full((60, 60), 9.0)
    target = np.maximum(predicted + generator.normal(0, 8, predicted.shape), 0)
    clean, faulty, robust = ErrorSums((50.0,)), ErrorSums((50.0,)), ErrorSums((50.0,), 400.0)
    clean.update(predicted, target)
    target[5, 5] = 2400.0
    faulty.update(predicted, target)
    robust.update(predicted, target)
    assert faulty.deviation()[0] > 4 * clean.deviation()[0]
    assert robust.deviation()[0] == pytest.approx(clean.deviation()[0], rel=0.01)
    assert robust.mean_error()[0] == pytest.approx(clean.mean_error()[0], abs=0.05)
    error, deviation = robust.moments().unbiased(predicted, target)
    assert (error[5, 5], deviation[5, 5]) == (0, 0)
    # Tall forest that the map shows as tall stays.
    robust.update(np.full(10, 380.0), np.full(10, 450.0))
    assert robust.mean_error()[1] == pytest.approx(-70)


def test_what_lasts_is_estimated_from_all_pairs_that_are_far_apart():
    """And not from the few that are as far apart as a chip is wide."""
    generator = np.random.default_rng(0)
    errors = [generator.normal(0, 6) + generator.normal(0, 8, (8, 8)) for _ in range(12)]
    found = estimated(errors)
    rows, columns = (axis.ravel() for axis in np.mgrid[:8, :8])
    distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    far = (distance >= 2.5) & (distance < 8)  # the classes from a third of a chip's side on
    flat = [(error - found.bias[1]).ravel() for error in errors]
    products = sum(np.outer(error, error)[far].sum() for error in flat)
    expected = products / (len(errors) * found.deviation[1] ** 2 * far.sum())
    lasting = np.array(found.correlation)[np.array(found.distance_m) >= 30]
    assert len(lasting) == 4
    assert lasting == pytest.approx(expected)


def test_the_bias_of_chips_in_blocks_is_as_uncertain_as_that_of_the_blocks():
    """Two blocks of two chips with errors 4 and 10: as two chips would have."""
    blocks, chips = ErrorSums(()), ErrorSums(())
    for block, error in ((7, 4.0), (7, 4.0), (3, 10.0), (3, 10.0)):
        blocks.update(np.full(8, error), np.zeros(8), block)
    for error in (4.0, 10.0):
        chips.update(np.full(16, error), np.zeros(16))
    np.testing.assert_allclose(blocks.bias_covariance(), chips.bias_covariance())
    assert blocks.bias_covariance()[0, 0] == pytest.approx(9.0)  # sd 4.24 over the root of 2
    half = ErrorSums(())
    half.update(np.full(8, 4.0), np.zeros(8), 7)
    np.testing.assert_allclose((half + half).bias_covariance(), 0)
