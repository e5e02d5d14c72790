import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomassters.chips.bands import BAND_NAMES, CLP_NONE, S1_NODATA_DB
from biomassters.chips.chip import Chip
from biomassters.errors import BadInputError
from biomassters.reporting.baselines import (
    _median,
    joint_baselines,
    out_of_fold,
    score_baselines,
    yearly_medians,
)
from biomassters.reporting.options import ReportingOptions

OPTIONS = ReportingOptions(ridge_pixels_per_chip=64)


def score(chips, train, held_out, options=OPTIONS):
    return score_baselines(chips, train, held_out, options, progress=False)


def test_mean_baseline_is_the_error_of_the_training_mean(forest):
    baselines = score(forest, ["c0", "c2"], ["c1", "c5"])
    labels = {chip.chip_id: chip.agb_mg_per_ha.astype(float) for chip in forest.chips}
    mean = (labels["c0"].mean() + labels["c2"].mean()) / 2
    expected = np.mean([np.sqrt(np.square(labels[c] - mean).mean()) for c in ("c1", "c5")])
    metrics = baselines.metrics()
    assert metrics["training_mean_agb"] == pytest.approx(mean, rel=1e-6)
    assert metrics["baseline_mean_rmse"] == pytest.approx(expected, rel=1e-6)
    assert metrics["ridge_pixels"] == 128


def test_ridge_learns_what_shows_in_the_bands_and_is_never_negative(forest):
    metrics = score(forest, ["c0", "c1", "c3", "c5"], ["c2", "c4"]).metrics()
    assert metrics["baseline_ridge_rmse"] < 0.7 * metrics["baseline_mean_rmse"]


def test_ridge_sees_no_image_of_held_out_chips_while_it_fits(chips_in_memory, forest):
    chips = chips_in_memory(forest.chips)
    score(chips, ["c1", "c2", "c3"], ["c0"], OPTIONS.model_copy(update={"ridge_chips": 2}))
    *fitted, scored = chips.images_read
    assert scored == "c0"
    assert len(fitted) == 2
    assert set(fitted) < {"c1", "c2", "c3"}


def test_same_seed_same_sample(forest):
    first, second = (score(forest, ["c0", "c1"], ["c2"]).metrics() for _ in range(2))
    assert first == second
    other = OPTIONS.model_copy(update={"seed": 1})
    assert score(forest, ["c0", "c1"], ["c2"], other).metrics() != first


def test_a_chip_store_gives_the_same_but_for_its_rounding(forest, store_split):
    expected = score(forest, ["c0", "c3"], ["c1"]).metrics()
    assert score(store_split, ["c0", "c3"], ["c1"]).metrics() == pytest.approx(expected, rel=1e-3)


def test_bands_without_any_data_do_not_stop_it(chips_in_memory, forest):
    blind = [
        dataclasses.replace(
            chip,
            images={**chip.images, "s1": np.full_like(chip.images["s1"], S1_NODATA_DB)},
        )
        for chip in forest.chips
    ]
    metrics = score(chips_in_memory(blind), ["c0", "c3"], ["c1"]).metrics()
    assert np.isfinite(metrics["baseline_ridge_rmse"])


def test_more_pixels_wanted_than_there_are(forest):
    everything = OPTIONS.model_copy(update={"ridge_pixels_per_chip": 10**6})
    size = forest.height * forest.width
    assert score(forest, ["c0"], ["c1"], everything).metrics()["ridge_pixels"] == size


def test_overlapping_lists_and_missing_labels_are_refused(chips_in_memory, forest, grow_chip):
    with pytest.raises(BadInputError, match=r"Chip c1 is both .* \(1 such"):
        score(forest, ["c0", "c1"], ["c1"])
    chips = chips_in_memory([*forest.chips, grow_chip("test", 50.0, split="test")])
    with pytest.raises(BadInputError, match="Chip test has no label"):
        score(chips, ["c0"], ["test"])


FOLDS = pd.DataFrame({"chip_id": ["c0", "c1", "c2", "c3"], "fold": [0, 0, 1, 2]})


def test_each_chip_is_scored_by_what_the_other_folds_teach():
    assert out_of_fold(FOLDS, ["c0", "c1", "c2", "c3"]) == [
        (["c2", "c3"], ["c0", "c1"]),
        (["c0", "c1", "c3"], ["c2"]),
        (["c0", "c1", "c2"], ["c3"]),
    ]
    # Networks of some folds learnt from the other named folds, too.
    assert out_of_fold(FOLDS, ["c2", "c3"]) == [
        (["c0", "c1", "c3"], ["c2"]),
        (["c0", "c1", "c2"], ["c3"]),
    ]
    with pytest.raises(BadInputError, match="No chips are named to score"):
        out_of_fold(FOLDS, [])


def test_folds_put_together_count_every_chip_once(forest):
    pairs = out_of_fold(FOLDS, list(FOLDS["chip_id"]))
    folds = [score(forest, *pair) for pair in pairs]
    joint = joint_baselines(folds)
    assert set(joint.ridge.per_chip()["chip_id"]) == set(FOLDS["chip_id"])
    for name in ("baseline_mean_rmse", "baseline_ridge_rmse"):
        weighed = [
            len(pair[1]) * fold.metrics()[name] for pair, fold in zip(pairs, folds, strict=True)
        ]
        assert joint.metrics()[name] == pytest.approx(sum(weighed) / 4)
    assert joint.metrics()["ridge_pixels"] == 3 * 64


@pytest.fixture
def chip() -> Chip:
    """Two pixels; Sentinel-1 in months 0-2, Sentinel-2 in months 5-8."""
    s1 = np.full((12, 4, 1, 2), S1_NODATA_DB, np.float32)
    s1[:3, 0, 0, 0] = [-10, -12, -17]
    s1[:2, 1, 0, 1] = [-20, -22]
    s2 = np.zeros((12, 11, 1, 2), np.uint16)
    s2[5:9, 0, 0, 0] = [100, 300, 200, 900]
    s2[5:9, 10, 0, 0] = [0, 10, CLP_NONE, 30]
    s2[5:9, 10, 0, 1] = 7  # a cloud probability where nothing was seen
    present = np.zeros((12, 2), bool)
    present[:3, 0] = present[5:9, 1] = True
    return Chip("a", "train", {"s1": s1, "s2": s2}, present)


def test_values_worked_by_hand(chip):
    medians = dict(zip(BAND_NAMES, yearly_medians(chip), strict=True))
    assert medians["VV_asc"][0] == -12
    assert medians["VH_asc"][1] == -21
    assert medians["B2"][0] == 250
    assert medians["B3"][0] == 0  # seen, and dark
    assert medians["CLP"][0] == 10


def test_what_no_month_saw_is_nan(chip):
    medians = dict(zip(BAND_NAMES, yearly_medians(chip), strict=True))
    assert np.isnan(medians["VV_asc"][1])
    assert np.isnan(medians["VV_desc"]).all()
    assert np.isnan(medians["B2"][1])
    assert np.isnan(medians["CLP"][1])


def test_chosen_pixels_are_those_of_the_whole_chip(grow_chip):
    chip = grow_chip("c", 80.0)
    pixels = np.array([5, 0, 700])
    np.testing.assert_array_equal(yearly_medians(chip, pixels), yearly_medians(chip)[:, pixels])


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 4)),
        elements=st.floats(-100, 100, width=32) | st.just(np.nan),
    )
)
def test_median_equals_numpys(values):
    np.testing.assert_allclose(_median(values), np.nanmedian(values, axis=0), rtol=1e-6)


def test_baselines_know_nothing_of_pixels_without_label(forest, chips_in_memory):
    """What is fitted and scored on the left half is what chips of that half give."""
    half = forest.width // 2
    cut, partly = [], []
    for chip in forest.chips:
        agb = chip.agb_mg_per_ha.copy()
        agb[:, half:] = np.nan
        partly.append(dataclasses.replace(chip, agb_mg_per_ha=agb))
        cut.append(
            dataclasses.replace(
                chip,
                images={name: year[..., :half] for name, year in chip.images.items()},
                agb_mg_per_ha=chip.agb_mg_per_ha[:, :half],
            )
        )
    options = ReportingOptions(ridge_pixels_per_chip=10_000)  # every labelled pixel
    ids = list(forest.chip_ids)
    found, whole = (
        score_baselines(chips, ids[:4], ids[4:], options, progress=False)
        for chips in (chips_in_memory(partly), chips_in_memory(cut, width=half))
    )
    assert found.ridge_pixels == whole.ridge_pixels == 4 * forest.height * half
    assert found.training_mean_mg_per_ha == pytest.approx(whole.training_mean_mg_per_ha)
    assert found.metrics() == pytest.approx(whole.metrics(), rel=1e-5)
    assert found.mean.summary()["pixels"] == 2 * forest.height * half
