import numpy as np
import pytest

from biomassters.uncertainty.cell_sums import CellSums
from biomassters.uncertainty.correlation import CorrelationSums
from biomassters.uncertainty.error_model import ErrorModel, ErrorSums
from biomassters.uncertainty.totals import RegionTotals


def model(**changes):
    values = {
        "edges": (50.0,),
        "bias": (2.0, -10.0),
        "deviation": (5.0, 20.0),
        "distance_m": (0.0, 10.0, 100.0),
        "correlation": (1.0, 0.4, 0.0),
        "inflation": 1.0,
        "bias_covariance": (0.0,) * 4,
        "level": 0.9,
        "chips": 12,
    }
    return ErrorModel(**(values | changes))


def alike(**changes):
    """Errors of all pixels the same, however far apart."""
    return model(distance_m=(0.0, 1e7), correlation=(1.0, 1.0), **changes)


def independent(**changes):
    return model(distance_m=(0.0, 0.001), correlation=(1.0, 0.0), **changes)


def everywhere(agb):
    return np.ones(agb.shape, bool)


def test_a_total_worked_by_hand():
    agb = np.array([[10.0, 60.0]])
    total = model().total(agb, everywhere(agb), pixel_area_ha=0.01, pixel_size_m=10.0)
    assert total.area_ha == pytest.approx(0.02)
    assert total.mean == pytest.approx((8 + 70) / 2)
    # The variance of the sum within one cell: 5² + 20² + ρ-mean · 2 · 5 · 20.
    assert np.hypot(5, 20) / 2 < total.standard_error < (5 + 20) / 2
    figures = total.to_dict()
    assert figures["biomass_mg"] == pytest.approx(39 * 0.02)
    assert figures["carbon_mg"] == pytest.approx(0.47 * 39 * 0.02)
    half = 1.6448536 * total.standard_error
    assert figures["biomass_mg_upper"] == pytest.approx((39 + half) * 0.02)


@pytest.mark.parametrize("size", [(3, 5), (40, 70)])
def test_errors_that_are_all_alike_do_not_cancel(size):
    agb = np.full(size, 100.0)
    assert alike().total(agb, everywhere(agb), 0.01, 10.0).standard_error == pytest.approx(20.0)


def test_independent_errors_cancel_as_they_should():
    agb = np.full((40, 70), 100.0)
    found = independent().total(agb, everywhere(agb), 0.01, 10.0).standard_error
    assert found == pytest.approx(20 / np.sqrt(40 * 70))


def test_what_is_common_to_all_maps_never_cancels():
    agb = np.full((64, 64), 100.0)
    found = (
        independent(bias_covariance=(9.0,) * 4)
        .total(agb, everywhere(agb), 0.01, 10.0)
        .standard_error
    )
    assert found == pytest.approx(np.hypot(3, 20 / 64))


def test_what_the_curve_does_not_hold_inflates_the_errors_but_not_the_doubt_about_the_bias():
    agb = np.full((64, 64), 100.0)
    found = independent(bias_covariance=(9.0,) * 4, inflation=2.0).total(
        agb, everywhere(agb), 0.01, 10.0
    )
    assert found.standard_error == pytest.approx(np.hypot(3, 2 * 20 / 64))


def test_there_is_no_negative_forest():
    agb = np.full((4, 4), 4.0)
    figures = alike(deviation=(50.0, 50.0)).total(agb, everywhere(agb), 0.01, 10.0).to_dict()
    assert (figures["biomass_mg_lower"], figures["carbon_mg_lower"]) == (0.0, 0.0)
    assert figures["biomass_mg_upper"] == pytest.approx((2 + 1.6448536 * 50) * 0.16)


def test_what_all_pixels_of_a_chip_share_a_region_shares_too():
    """Half of the variance is common to pixels however far apart: it never cancels."""
    agb = np.full((300, 300), 100.0)
    half = model(distance_m=(0.0, 0.001, 50.0), correlation=(1.0, 0.5, 0.5))
    found = half.total(agb, everywhere(agb), 0.01, 10.0).standard_error
    assert found == pytest.approx(20 * np.sqrt(0.5 + 0.5 / 300**2))


def test_cells_are_close_to_the_double_sum_over_pixels():
    curve = {"distance_m": (0.0, 10.0, 300.0, 800.0), "correlation": (1.0, 0.4, 0.1, 0.0)}
    agb = np.random.default_rng(0).uniform(0, 100, (48, 40))
    found = model(**curve).total(agb, everywhere(agb), 0.01, 10.0).standard_error
    sigma = model().deviations(agb).ravel()
    rows, columns = (axis.ravel() for axis in np.mgrid[:48, :40])
    distance = 10 * np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    exact = sigma @ model(**curve).correlation_at(distance) @ sigma
    assert found == pytest.approx(np.sqrt(exact) / agb.size, rel=0.02)


def test_joined_cells_are_close_to_fine_ones():
    """Cells 8 times as wide as the finest, and stands of forest narrower than they are."""
    curve = {"distance_m": (0.0, 10.0, 300.0, 800.0), "correlation": (1.0, 0.4, 0.1, 0.0)}
    coarse = RegionTotals(model(**curve), 10.0)
    coarse._cells = CellSums(2, most=100)
    fine = RegionTotals(model(**curve), 10.0)
    forest = np.random.default_rng(0).uniform(0, 100, (32, 32)).repeat(32, 0).repeat(32, 1)
    for top, left in np.ndindex(8, 8):
        block = forest[128 * top : 128 * (top + 1), 128 * left : 128 * (left + 1)]
        for totals in (coarse, fine):
            totals.update(block, everywhere(block), 128 * top, 128 * left)
    assert (fine._cells.side, coarse._cells.side) == (16, 128)
    assert coarse.total().standard_error == pytest.approx(fine.total().standard_error, rel=0.03)


def test_blocks_in_any_order_give_what_the_whole_map_gives():
    agb = np.random.default_rng(1).uniform(0, 200, (70, 50))
    valid = np.random.default_rng(2).random(agb.shape) > 0.2
    whole, blocks = RegionTotals(model(), 10.0), RegionTotals(model(), 10.0)
    whole.update(agb, valid, 0, 0)
    for top, left in ((33, 0), (0, 17), (0, 0), (33, 17)):
        rows = slice(top, 33 if top == 0 else None)
        columns = slice(left, 17 if left == 0 else None)
        blocks.update(agb[rows, columns], valid[rows, columns], top, left)
    assert blocks.result() == pytest.approx(whole.result())


def test_pixels_that_are_not_valid_do_not_count():
    agb = np.array([[10.0, np.nan]])
    total = model().total(agb, np.array([[True, False]]), 0.01, 10.0)
    assert total.area_ha == pytest.approx(0.01)
    assert total.mean == pytest.approx(8.0)


def test_no_pixels_no_biomass():
    region = RegionTotals(model(), 10.0)
    assert region.result()["biomass_mg"] == 0.0
    region.update(np.ones((2, 2)), np.zeros((2, 2), bool), 0, 0)
    assert region.result()["area_ha"] == 0.0


def test_a_model_survives_json():
    assert ErrorModel.from_dict(model().to_dict()) == model()


def estimated(errors, agb=100.0):
    """An error model from made-up chips of constant prediction."""
    sums, correlation = ErrorSums((50.0,)), CorrelationSums()
    predictions = [np.full(error.shape, agb) for error in errors]
    for predicted, error in zip(predictions, errors, strict=True):
        sums.update(predicted, predicted - error)
    for predicted, error in zip(predictions, errors, strict=True):
        correlation.update(*sums.moments().unbiased(predicted, predicted - error))
    return sums.model(correlation, 10.0, 0.9)


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
    expected = found.total(agb, everywhere(agb), 0.01, 10.0).standard_error
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


def test_the_doubt_about_the_bias_is_that_of_the_bins_that_a_map_holds():
    found = model(
        distance_m=(0.0, 0.001), correlation=(1.0, 0.0), bias_covariance=(0.04, 0.0, 0.0, 9.0)
    )
    low, high = np.full((64, 64), 10.0), np.full((64, 64), 100.0)
    of_low = found.total(low, everywhere(low), 0.01, 10.0).standard_error
    of_high = found.total(high, everywhere(high), 0.01, 10.0).standard_error
    assert of_low == pytest.approx(np.hypot(0.2, 5 / 64))
    assert of_high == pytest.approx(np.hypot(3.0, 20 / 64))
    both = np.concatenate([low, high])
    of_both = found.total(both, everywhere(both), 0.01, 10.0).standard_error
    assert of_both == pytest.approx(np.sqrt((0.04 + 9) / 4 + (25 + 400) / 2 / both.size))


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


def test_what_a_region_shares_beyond_chips_is_a_share_of_its_biomass():
    agb = np.full((64, 64), 100.0)
    found = independent(shared_sd=0.05).total(agb, everywhere(agb), 0.01, 10.0)
    assert found.standard_error == pytest.approx(np.hypot(0.05 * 110, 20 / 64))


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
