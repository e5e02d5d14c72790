import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from biomassters.errors import BadInputError
from biomassters.metrics import (
    CLASS_NAMES,
    DensityHistogram,
    ScoreAccumulator,
    labelled_pixels,
)


def chips_like(seed: int, count: int, height: int = 8, width: int = 6):
    generator = np.random.default_rng(seed)
    for index in range(count):
        target = generator.gamma(1.0, 60.0 + 40 * index, (height, width)).astype(np.float32)
        target[generator.random(target.shape) < 0.2] = 0
        noise = generator.normal(5, 30, target.shape)
        yield f"c{index}", (target + noise).astype(np.float32), target


def score(chips) -> ScoreAccumulator:
    scores = ScoreAccumulator()
    for chip in chips:
        scores.update(*chip)
    return scores


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_equals_scikit_learn_on_the_same_pixels(seed, count):
    chips = list(chips_like(seed, count))
    summary = score(chips).summary()
    prediction = np.concatenate([p.ravel() for _, p, _ in chips]).astype(np.float64)
    target = np.concatenate([t.ravel() for _, _, t in chips]).astype(np.float64)
    per_chip = [
        math.sqrt(mean_squared_error(t.astype(float).ravel(), p.astype(float).ravel()))
        for _, p, t in chips
    ]
    expected = {
        "rmse_per_chip_mean": np.mean(per_chip),
        "rmse_pooled": math.sqrt(mean_squared_error(target, prediction)),
        "mae": mean_absolute_error(target, prediction),
        "bias": (prediction - target).mean(),
        "r2": r2_score(target, prediction),
        "target_mean": target.mean(),
        "prediction_mean": prediction.mean(),
    }
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
    assert summary["chips"] == count
    assert summary["pixels"] == target.size


def test_equals_scikit_learn_far_from_zero_where_sums_of_squares_lose_digits():
    target = np.array([[1e8, 1e8 + 1], [1e8 + 2, 1e8 + 3]])
    prediction = target + np.array([[0.5, -0.5], [0.25, 0.0]])
    scores = score([("a", prediction[:1], target[:1]), ("b", prediction[1:], target[1:])])
    expected = r2_score(target.ravel(), prediction.ravel())
    assert scores.summary()["r2"] == pytest.approx(expected, rel=1e-9)


def test_values_worked_by_hand():
    scores = ScoreAccumulator()
    scores.update("a", np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]]))
    scores.update("b", np.array([[100.0, 400.0]]), np.array([[101.0, 500.0]]))
    summary = scores.summary()
    rmse_a, rmse_b = math.sqrt(12.5), math.sqrt((1 + 100**2) / 2)
    assert summary["rmse_per_chip_mean"] == pytest.approx((rmse_a + rmse_b) / 2)
    assert summary["rmse_masked_per_chip_mean"] == pytest.approx((rmse_a + 1) / 2)
    assert summary["mae"] == pytest.approx((3 + 4 + 1 + 100) / 4)
    assert summary["bias"] == pytest.approx((3 + 4 - 1 - 100) / 4)
    rows = scores.per_chip().set_index("chip_id")
    assert math.isnan(rows.loc["a", "r2"])
    assert "undefined" in rows.loc["a", "r2_note"]
    assert rows.loc["b", "r2_note"] == ""
    assert rows.loc["b", "rmse_masked"] == pytest.approx(1.0)


def test_constant_target_has_no_r2_but_a_reason():
    # 0.1 is not exact in binary: the mean of many may differ from each in the last digit.
    constant = np.full((7, 7), 0.1)
    summary = score([("a", constant + 1, constant), ("b", constant - 1, constant)]).summary()
    assert summary["r2"] is None
    assert "same value" in summary["r2_note"]
    assert summary["rmse_pooled"] == pytest.approx(1.0)


def test_nothing_scored_is_none_and_json_ready():
    scores = ScoreAccumulator()
    summary = scores.summary()
    assert summary["rmse_per_chip_mean"] is None
    assert summary["r2_note"]
    json.dumps(summary, allow_nan=False)
    assert list(scores.per_chip().columns) == list(score(chips_like(0, 1)).per_chip().columns)
    assert scores.by_class()["pixels"].sum() == 0


def test_chip_of_outliers_only_is_left_out_of_the_masked_score():
    high = np.full((2, 2), 500.0)
    summary = score([("a", high - 10, high), ("b", high * 0 + 3, high * 0)]).summary()
    assert summary["rmse_masked_per_chip_mean"] == pytest.approx(3.0)
    summary = score([("a", high - 10, high)]).summary()
    assert summary["rmse_masked_per_chip_mean"] is None
    assert summary["rmse_per_chip_mean"] == pytest.approx(10.0)


def test_classes_by_target_with_upper_edges_included():
    target = np.array([[0.0, 0.5, 50.0, 50.5, 100.0, 150.0, 200.0, 200.5, 900.0]])
    table = score([("a", target + 2, target)]).by_class().set_index("biomass_class")
    assert tuple(table.index) == CLASS_NAMES
    assert table["pixels"].tolist() == [1, 2, 2, 1, 1, 2]
    assert table["pixel_share"].sum() == pytest.approx(1.0)
    np.testing.assert_allclose(table[["rmse", "mae", "bias"]], 2.0)
    assert table.loc[">200", "target_mean"] == pytest.approx((200.5 + 900) / 2)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(0, 5))
def test_merging_equals_one_pass(seed, cut):
    chips = list(chips_like(seed, 5))
    whole, left, right = score(chips), score(chips[:cut]), score(chips[cut:])
    left.merge(right)
    expected, found = whole.summary(), left.summary()
    assert found.pop("r2_note") == expected.pop("r2_note") == ""
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for name, row in left.by_class().set_index("biomass_class").iterrows():
        expected = whole.by_class().set_index("biomass_class").loc[name]
        np.testing.assert_allclose(row.to_numpy(float), expected.to_numpy(float), rtol=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_predictions_that_are_no_numbers_are_refused_by_name(value):
    prediction = np.zeros((2, 2))
    prediction[1, 0] = value
    with pytest.raises(BadInputError, match="Chip 00ab: 1 of 4 pixels of the prediction"):
        ScoreAccumulator().update("00ab", prediction, np.zeros((2, 2)))
    with pytest.raises(BadInputError, match="Chip 00ab: 1 of 4 pixels of the target"):
        ScoreAccumulator().update("00ab", np.zeros((2, 2)), prediction)


def test_other_shapes_and_repeated_chips_are_refused():
    scores = ScoreAccumulator()
    with pytest.raises(BadInputError, match=r"Chip a: .*\(2, 2\).*\(3, 3\)"):
        scores.update("a", np.zeros((2, 2)), np.zeros((3, 3)))
    scores.update("a", np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(BadInputError, match="Chip a is scored twice"):
        scores.update("a", np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(BadInputError, match="Chip a is scored twice"):
        scores.merge(scores)


def test_density_counts_every_pixel_and_clamps_the_outside():
    density = DensityHistogram(top_mg_per_ha=100.0, bins=10)
    target = np.array([[0.0, 9.9, 10.0, 100.0, 5000.0]])
    prediction = np.array([[-5.0, 10.0, 55.0, 99.0, 100.0]])
    density.update("a", prediction, target)
    expected = np.zeros((10, 10), int)
    for row, column in [(0, 0), (0, 1), (1, 5), (9, 9), (9, 9)]:
        expected[row, column] += 1
    np.testing.assert_array_equal(density.counts, expected)
    assert density.edges[[0, 1, -1]].tolist() == [0.0, 10.0, 100.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused_by_name(value):
    bad = np.array([[0.0, value]])
    with pytest.raises(BadInputError, match="Chip 00ab: 1 of 2 pixels of the prediction"):
        DensityHistogram().update("00ab", bad, np.zeros((1, 2)))


def test_scores_of_a_partly_labelled_chip_worked_by_hand():
    """Errors 3 and −4 where there is a label; the pixels without one are nowhere."""
    target = np.array([[10.0, math.nan], [math.nan, 60.0]])
    prediction = np.array([[13.0, 5.0], [999.0, 56.0]])
    scores, density = ScoreAccumulator(), DensityHistogram()
    for found in (scores, density):
        found.update("a", *labelled_pixels(prediction, target))
    assert scores.per_chip()["rmse"].tolist() == [pytest.approx(12.5**0.5)]
    assert (scores.summary()["mae"], scores.summary()["bias"]) == (3.5, -0.5)
    assert scores.summary()["pixels"] == density.counts.sum() == 2
    assert scores.by_class()["pixels"].tolist() == [0, 1, 1, 0, 0, 0]


def test_labelled_pixels_leave_what_is_whole_or_wrong_as_it_is():
    prediction, target = np.ones((2, 2)), np.zeros((2, 2))
    same = labelled_pixels(prediction, target)
    assert same[0] is prediction
    assert same[1] is target
    with pytest.raises(BadInputError, match="4 of 4 pixels of the target"):
        ScoreAccumulator().update("a", *labelled_pixels(prediction, target * math.nan))
    with pytest.raises(BadInputError, match=r"shape \(2, 2\) and the target \(1, 2\)"):
        ScoreAccumulator().update("a", *labelled_pixels(prediction, np.array([[math.nan, 1]])))
