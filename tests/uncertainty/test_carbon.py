import numpy as np
import pandas as pd
import pytest

from biomassters.chips.chip import Chip
from biomassters.uncertainty.carbon import (
    HectareErrors,
    account_for_carbon,
    chip_totals,
    total_of_set,
)
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions

OPTIONS = UncertaintyOptions(resamples=3000)
INTERVALS = IntervalModel(0.9, (), (-30.0,), (30.0,), (1,), 9, mean_half_width=(16.448536,))
ERRORS = ErrorModel((), (5.0,), (20.0,), (0.0, 10.0), (1.0, 0.0), 1.0, (1.0,), 0.9, 9)


def test_a_chip_in_mg_of_biomass_and_of_carbon():
    (row,) = chip_totals({"a": np.full((20, 50), 105, np.float32)}, INTERVALS, ERRORS, 0.5).to_dict(
        "records"
    )
    assert row["area_ha"] == pytest.approx(10)  # 1,000 pixels of 0.01 ha
    assert row["mean_agb_mg_per_ha"] == pytest.approx(100)
    assert row["biomass_mg"] == pytest.approx(1000)
    assert row["biomass_mg_lower"] == pytest.approx(835.5, abs=0.1)
    assert row["carbon_mg"] == pytest.approx(500)
    assert row["carbon_mg_upper"] == pytest.approx(582.2, abs=0.1)
    assert row["standard_error_mg_per_ha"] == pytest.approx(10, rel=1e-5)


def test_a_set_of_many_chips_keeps_the_doubt_about_the_bias():
    errors = np.random.default_rng(0).normal(0, 6, 50)
    small = total_of_set(np.full(4, 80.0), 100.0, errors, OPTIONS)
    large = total_of_set(np.full(4000, 80.0), 100_000.0, errors, OPTIONS)
    assert small["standard_error_mg_per_ha"] == pytest.approx(
        6 * np.hypot(1 / 2, 1 / np.sqrt(50)), rel=0.15
    )
    assert large["standard_error_mg_per_ha"] == pytest.approx(6 / np.sqrt(50), rel=0.15)


def test_the_thresholds_of_the_field_worked_by_hand():
    figures = total_of_set(np.full(4, 80.0), 10.0, np.zeros(9), OPTIONS)
    assert figures["biomass_mg"] == pytest.approx(800)
    assert figures["art_trees_deduction"] == 0
    errors = np.random.default_rng(1).normal(0, 6, 50)
    figures = total_of_set(np.full(4, 80.0), 10.0, errors, OPTIONS)
    half = figures["relative_half_width_90"]
    assert half == pytest.approx(1.645 * figures["relative_standard_error"], rel=0.1)
    assert figures["art_trees_deduction"] == pytest.approx(0.524417 * half / 1.645006)


def test_hectares_above_50_only():
    target = np.zeros((25, 20), np.float32)
    target[:10, :10] = 100
    target[10:20, 10:] = 50  # not above
    prediction = target.copy()
    prediction[:10, :10] += 20
    prediction[20:] = 999  # no whole hectare
    errors = HectareErrors()
    errors.update(prediction, target)
    assert errors.summary() == {
        "hectares_above_50": 1,
        "relative_rmse_above_50": pytest.approx(0.2),
    }
    assert HectareErrors().summary()["relative_rmse_above_50"] is None


def test_both_splits_are_added_up(forest, maps):
    models = {"intervals": INTERVALS.to_dict(), "errors": ERRORS.to_dict()}
    measured = pd.DataFrame({"chip_id": ["c0"], "corrected_mean": [33.0]})
    account, table = account_for_carbon(forest, maps, {"t": maps["c1"]}, models, measured, OPTIONS)
    assert table["split"].tolist() == ["held_out"] * 6 + ["test"]
    assert table["mean_agb_mg_per_ha"][0] == 33.0
    labels = sum(chip.agb_mg_per_ha.sum(dtype=float) for chip in forest.chips) * 0.01
    assert account["held_out"]["label_biomass_mg"] == pytest.approx(labels)
    assert account["held_out"]["carbon_mg"] == pytest.approx(
        0.47 * account["held_out"]["biomass_mg"]
    )
    assert account["test"]["label_biomass_mg"] is None
    assert account["test"]["biomass_mg_lower"] < account["test"]["biomass_mg_upper"]
    without, _ = account_for_carbon(forest, maps, {}, models, measured, OPTIONS)
    assert without["test"] is None


def test_partly_labelled_chips_are_added_up_where_they_are_labelled(chips_in_memory):
    """A chip of 8 × 4 pixels labelled throughout (100), one on its left quarter (20)."""
    size = (8, 4)
    label = np.full((2, *size), np.nan, np.float32)
    label[0], label[1, :, :1] = 100.0, 20.0
    images = {
        "s1": np.zeros((12, 4, *size), np.float32),
        "s2": np.zeros((12, 11, *size), np.uint16),
    }
    present = np.ones((12, 2), bool)
    chips = chips_in_memory(
        [Chip(name, "train", images, present, agb) for name, agb in zip("ab", label, strict=True)],
        *size,
    )
    maps = {"a": np.full(size, 115, np.float32), "b": np.full(size, 35, np.float32)}
    maps["b"][:, 1:] = 999  # where nothing is known
    models = {"intervals": INTERVALS.to_dict(), "errors": ERRORS.to_dict()}
    none = pd.DataFrame({"chip_id": [], "corrected_mean": []})
    account, table = account_for_carbon(chips, maps, {}, models, none, OPTIONS)
    assert table["mean_agb_mg_per_ha"].tolist() == pytest.approx([110, 30])  # a bias of 5 less
    assert table["area_ha"].tolist() == pytest.approx([0.32, 0.08])
    held_out = account["held_out"]
    assert held_out["area_ha"] == pytest.approx(0.40)
    assert held_out["mean_agb_mg_per_ha"] == pytest.approx((110 * 0.32 + 30 * 0.08) / 0.4)
    assert held_out["label_biomass_mg"] == pytest.approx(100 * 0.32 + 20 * 0.08)
    assert held_out["standard_error_mg_per_ha"] == pytest.approx(0, abs=1e-9)  # both are 10 off


def test_hectares_without_a_label_everywhere_are_left_out():
    target = np.full((10, 20), 100, np.float32)
    target[3, 15] = np.nan
    errors = HectareErrors()
    errors.update(target + np.where(np.arange(20) < 10, 20, 999).astype(np.float32), target)
    assert errors.summary()["hectares_above_50"] == 1
    assert errors.summary()["relative_rmse_above_50"] == pytest.approx(0.2)


def test_totals_of_blocks_are_drawn_by_block(chips_in_memory):
    """Eight chips in two blocks that err by −6 and 6: the mean errs as that of two draws."""
    size = (8, 4)
    agb = [np.full(size, 100, np.float32)] * 8
    images = {
        "s1": np.zeros((12, 4, *size), np.float32),
        "s2": np.zeros((12, 11, *size), np.uint16),
    }
    present = np.ones((12, 2), bool)
    names = [f"c{number}" for number in range(8)]
    chips = chips_in_memory(
        [Chip(name, "train", images, present, one) for name, one in zip(names, agb, strict=True)],
        *size,
    )
    maps = {name: np.full(size, 105 + (6 if n < 4 else -6), "f4") for n, name in enumerate(names)}
    models = {"intervals": INTERVALS.to_dict(), "errors": ERRORS.to_dict()}
    none = pd.DataFrame({"chip_id": [], "corrected_mean": []})
    blocks = {name: int(number < 4) for number, name in enumerate(names)}
    by_block, by_chip = (
        account_for_carbon(chips, maps, {}, models, none, OPTIONS, given)[0]
        for given in (blocks, None)
    )
    held_out = by_block["held_out"]
    assert (held_out["chips"], held_out["blocks"]) == (8, 2)
    assert held_out["area_ha"] == pytest.approx(8 * 0.32)
    assert held_out["biomass_mg"] == pytest.approx(by_chip["held_out"]["biomass_mg"])
    # What was known to calibrate on, two draws of ±6, and the error of the set, two more of those.
    assert held_out["standard_error_mg_per_ha"] == pytest.approx(
        6 * np.sqrt(1 / 2 + (1 - 1 / 2) / 2), rel=0.05
    )
    alone = by_chip["held_out"]
    assert alone["standard_error_mg_per_ha"] < held_out["standard_error_mg_per_ha"] / 1.5
    assert "blocks" not in alone
