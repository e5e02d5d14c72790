import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from biomassters.chips.predicted_maps import Prediction, write_predictions
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference
from biomassters.uncertainty.intervals import (
    IntervalModel,
    allowed_misses,
    bounded_maps,
    candidates,
    fewest_chips,
    fit_intervals,
    say_if_borrowed,
)
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.residuals import ResidualCounts

CLASSES = (0.0, 50.0, 100.0, 150.0, 200.0)
MODEL = IntervalModel(
    level=0.9,
    edges=(50.0,),
    lower=(-20.0, -40.0),
    upper=(10.0, 60.0),
    pixels=(5000, 5000),
    chips=20,
    mean_edges=(),
    mean_half_width=(8.0,),
)


def pixels(seed, count=200_000):
    """Predictions that pull towards the mean, and errors that grow with biomass."""
    generator = np.random.default_rng(seed)
    target = generator.gamma(2.0, 45.0, count)
    prediction = np.maximum(0.75 * target + 18 + generator.normal(0, 4 + 0.2 * target), 0)
    return prediction, target


def counted(prediction, target):
    counts = ResidualCounts(CLASSES)
    counts.update(prediction, target)
    return counts


def means(count=20):
    return list(zip(np.linspace(20, 90, count), np.linspace(25, 85, count), strict=True))


def test_bounds_are_worked_out_by_bin_and_never_below_zero():
    lower, upper = MODEL.bounds(np.array([[0.0, 30.0], [50.0, 100.0]]))
    assert lower.tolist() == [[0.0, 10.0], [10.0, 60.0]]
    assert upper.tolist() == [[10.0, 40.0], [110.0, 160.0]]
    assert lower.dtype == upper.dtype == np.float32


def test_bounds_go_over_from_bin_to_bin():
    model = replace(
        MODEL,
        edges=(10.0, 50.0),
        lower=(-4.0, -20.0, -40.0),
        upper=(10.0, 20.0, 60.0),
        centres=(4.0, 30.0, 90.0),
    )
    lower, upper = model.bounds(np.array([5.0, 20.0, 30.0, 60.0, 90.0, 120.0]))
    assert lower.tolist() == [1.0, 0.0, 10.0, 30.0, 50.0, 80.0]
    assert upper.tolist() == [15.0, 40.0, 50.0, 100.0, 150.0, 180.0]


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_the_prediction_and_rise_with_it(seed):
    model = fit_intervals(counted(*pixels(seed)), means(), UncertaintyOptions())
    predicted = np.arange(model.centres[2], 400, 0.25)
    lower, upper = model.bounds(predicted)
    assert (lower <= predicted.astype(np.float32)).all()
    assert (predicted.astype(np.float32) <= upper).all()
    smooth = predicted >= next(c for c in model.centres if c > 15)
    assert (np.diff(lower[smooth]) >= 0).all()
    assert (np.diff(upper[smooth]) >= 0).all()
    assert np.abs(np.diff(upper[smooth])).max() < 10


def test_an_unknown_prediction_has_unknown_bounds():
    lower, upper = MODEL.bounds(np.array([np.nan, 1.0]))
    assert np.isnan([lower[0], upper[0]]).all()
    assert np.isfinite([lower[1], upper[1]]).all()


def test_a_model_survives_json():
    assert IntervalModel.from_dict(json.loads(json.dumps(MODEL.to_dict()))) == MODEL


def test_a_model_of_an_earlier_version_with_a_value_that_is_gone_is_read():
    assert IntervalModel.from_dict(MODEL.to_dict() | {"spread_floor": None}) == MODEL


def test_the_interval_of_a_chip_mean():
    lower, upper = MODEL.mean_bounds(np.array([5.0, 60.0]))
    assert lower.tolist() == [0.0, 52.0]
    assert upper.tolist() == [13.0, 68.0]


@pytest.mark.parametrize(
    ("count", "level", "misses"),
    [(9, 0.9, 0), (8, 0.9, -1), (19, 0.9, 1), (99, 0.95, 4), (1, 0.5, 0)],
)
def test_the_rank_of_split_conformal_prediction(count, level, misses):
    assert allowed_misses(count, level) == misses


def test_the_fewest_chips_of_a_level():
    assert [fewest_chips(level) for level in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]


def test_too_few_chips_are_refused_with_the_remedy():
    with pytest.raises(
        BadInputError, match=r"at least 9 held-out chips.*there are 4.*0\.8 or less"
    ):
        fit_intervals(counted(*pixels(0, 1000)), means(4), UncertaintyOptions())


def test_every_bin_covers_what_was_promised_on_pixels_never_seen():
    options = UncertaintyOptions(minimum_pixels=4000)
    model = fit_intervals(counted(*pixels(1)), means(), options)
    prediction, target = pixels(2)
    lower, upper = model.bounds(prediction)
    covered = (target >= lower) & (target <= upper)
    assert covered.mean() == pytest.approx(0.9, abs=0.004)
    bins = np.searchsorted(model.edges, prediction, side="right")
    by_bin = np.bincount(bins, covered) / np.bincount(bins)
    assert len(by_bin) > 10
    assert by_bin.min() > 0.87
    assert by_bin.max() < 0.93


def test_no_class_of_the_target_is_left_behind():
    even_tails = UncertaintyOptions(class_tolerance=1.0)
    balanced = UncertaintyOptions(class_tolerance=0.05)
    prediction, target = pixels(3)
    counts, tall = counted(*pixels(4)), target > 200
    worst = []
    for options in (even_tails, balanced):
        lower, upper = fit_intervals(counts, means(), options).bounds(prediction)
        worst.append(((target >= lower) & (target <= upper))[tall].mean())
    assert worst[0] < 0.8
    assert worst[1] > 0.83


def test_intervals_are_narrower_than_one_constant_width_of_the_same_coverage():
    model = fit_intervals(counted(*pixels(5)), means(), UncertaintyOptions(class_tolerance=0.1))
    prediction, target = pixels(6)
    lower, upper = model.bounds(prediction)
    coverage = ((target >= lower) & (target <= upper)).mean()
    half = np.quantile(np.abs(target - prediction), coverage)
    constant = (prediction + half - np.maximum(prediction - half, 0)).mean()
    assert (upper - lower).mean() < constant


@given(st.lists(st.floats(0, 300), min_size=30, max_size=80), st.sampled_from([0.5, 0.8, 0.9]))
def test_ends_leave_out_no_more_than_allowed(targets, level):
    target = np.array(targets)
    prediction = np.full(target.shape, 60.0)
    found = candidates(counted(prediction, target).joined(1), level)
    allowed = allowed_misses(len(target), level)
    assert (found.misses.sum(axis=0) <= allowed).all()
    for lower, upper, misses in zip(
        found.lower[0], found.upper[0], found.misses[:, 0].sum(0), strict=True
    ):
        residual = target - prediction
        outside = (residual < lower - 1e-9) | (residual > upper + 1e-9)
        assert outside.sum() <= misses


TWENTY_UP = IntervalModel(0.9, (), (-10.0,), (20.0,), (1,), 9)


def test_maps_with_bounds_keep_their_place_and_their_first_band(tmp_path):
    place = Georeference("EPSG:3067", (10.0, 0.0, 300000.0, 0.0, -10.0, 7000000.0))
    agb = np.array([[0.0, 5.0], [50.0, 100.0]], np.float32)
    plain = write_predictions(tmp_path / "a", [Prediction("x", agb, place)], "w", "f00d")
    bounded = write_predictions(tmp_path / "b", bounded_maps(plain, TWENTY_UP), "w")
    one = bounded.read("x")
    np.testing.assert_array_equal(bounded["x"], agb)
    np.testing.assert_array_equal(one.bounds_mg_per_ha[0], [[0, 0], [40, 90]])
    np.testing.assert_array_equal(one.bounds_mg_per_ha[1], agb + 20)
    assert one.georeference == place
    with rasterio.open(bounded.file("x")) as source:
        assert source.descriptions[1].startswith("lower bound")
        assert source.crs.to_epsg() == 3067


def test_borrowed_intervals_are_said(tmp_path, caplog):
    maps = [Prediction("x", np.ones((2, 2), np.float32))]
    folder = write_predictions(tmp_path / "a", maps, "final", "f00d")
    caplog.set_level("INFO", "biomassters")
    say_if_borrowed(folder, "f00d")
    assert not caplog.records
    say_if_borrowed(folder, "beef")
    assert "other than those" in caplog.text


@pytest.mark.parametrize("foreign", [True, False])
def test_a_folder_that_was_tampered_with_is_refused(tmp_path, foreign):
    maps = [Prediction(name, np.ones((2, 2), np.float32)) for name in ("x", "y")]
    folder = write_predictions(tmp_path / "a", maps, "w")
    folder.check_files()
    if foreign:
        (folder.path / "z_agbm.tif").write_bytes(b"")
    else:
        folder.file("y").unlink()
    with pytest.raises(BadInputError, match="z_agbm.tif" if foreign else "lacks y_agbm.tif"):
        folder.check_files()
