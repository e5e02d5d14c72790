from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from biomassters.errors import BadInputError
from biomassters.uncertainty.cross_calibration import (
    NOT_MEASURED,
    CoverageCounts,
    PartCounts,
    assign_parts,
    calibrate,
)
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.totals import total_of_map

OPTIONS = UncertaintyOptions(minimum_pixels=500, minimum_class_pixels=1000)
SIZE = 40


@dataclass
class Labels:
    """The part of a store's split that calibrating uses."""

    agb: dict[str, np.ndarray]
    height: int = SIZE
    width: int = SIZE

    @property
    def chip_ids(self) -> tuple[str, ...]:
        return tuple(self.agb)

    def read_agb_into(self, index: int, out: np.ndarray) -> None:
        out[:] = self.agb[self.chip_ids[index]]


def forest(chips: int, seed: int = 0):
    """Labels, and predictions whose errors grow with biomass and are partly a chip's own."""
    generator = np.random.default_rng(seed)
    agb, maps = {}, {}
    for number in range(chips):
        target = generator.gamma(2, 40, (SIZE, SIZE)).astype(np.float32)
        error = (3 + 0.2 * target) * generator.normal(0, 1, target.shape) + generator.normal(0, 3)
        agb[f"c{number:03}"] = target
        maps[f"c{number:03}"] = np.maximum(target + error, 0).astype(np.float32)
    return Labels(agb), maps


@cache
def calibrated(chips: int, repeat: int = 0):
    labels, maps = forest(chips)
    return calibrate(labels, maps, list(maps), OPTIONS)


def test_coverage_is_measured_on_chips_left_out_and_is_what_was_promised():
    metrics = calibrated(40).metrics()
    assert metrics["interval_pixel_coverage"] == pytest.approx(0.9, abs=0.015)
    assert 0.8 <= metrics["interval_chip_mean_coverage"] <= 1.0
    assert metrics["interval_pixel_mean_width"] < metrics["interval_constant_mean_width"]
    for name in ("0-50", "50-100", "100-150", "150-200", ">200"):
        assert 0.8 <= metrics["interval_coverage_by_class"][name] <= 0.97


def test_measured_coverage_follows_the_nominal_level():
    levels = calibrated(40).levels
    assert levels["level"].tolist() == [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
    np.testing.assert_allclose(levels["pixel_coverage"], levels["level"], atol=0.02)
    np.testing.assert_allclose(levels["chip_mean_coverage"], levels["level"], atol=0.15)


def test_every_chip_has_a_row_and_every_pixel_counts():
    found = calibrated(25)
    chips, classes = found.coverage.per_chip(), found.coverage.by_class()
    assert sorted(chips["chip_id"]) == [f"c{number:03}" for number in range(25)]
    assert classes["pixels"].sum() == 25 * SIZE**2
    assert (chips["mean_lower"] < chips["mean_upper"]).all()


def test_just_enough_chips_give_intervals_that_are_not_measured():
    found = calibrated(9)
    assert found.metrics()["interval_note"] == NOT_MEASURED
    assert found.coverage.per_chip().empty
    assert found.levels["level"].max() < 0.9


@pytest.mark.parametrize("chips", [1, 8])
def test_too_few_chips_are_refused(chips):
    with pytest.raises(BadInputError, match="need at least 9 held-out chips"):
        calibrated(chips)


def test_no_held_out_chips_are_refused():
    labels, maps = forest(3)
    with pytest.raises(BadInputError, match="no held-out chips"):
        calibrate(labels, maps, [], OPTIONS)


def test_a_prediction_that_is_no_number_is_named():
    labels, maps = forest(12)
    maps["c003"][0, 0] = np.nan
    with pytest.raises(BadInputError, match="Chip c003: 1 of 1600 pixels of the prediction"):
        calibrate(labels, maps, list(maps), OPTIONS)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.2, -0.1])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(BadInputError, match="level"):
        UncertaintyOptions.model_validate({"level": level})


def test_a_forest_of_one_value_still_gives_intervals():
    labels = Labels({f"c{n}": np.full((SIZE, SIZE), 60, np.float32) for n in range(12)})
    maps = {chip: agb + 5 for chip, agb in labels.agb.items()}
    found = calibrate(labels, maps, list(maps), OPTIONS)
    lower, upper = found.intervals.bounds(np.array([65.0]))
    assert 59 < lower[0] <= 60
    assert upper[0] == 65  # an interval holds its own prediction
    assert found.errors.corrected(np.array([65.0])) == pytest.approx(60, abs=0.01)


def test_parts_are_even_and_every_chip_has_one():
    parts = assign_parts(43, OPTIONS)
    assert sorted(np.bincount(parts)) == [4] * 7 + [5] * 3
    assert len(np.unique(assign_parts(10, OPTIONS))) == 10


def test_the_same_chips_give_the_same_models():
    first, second = calibrated(20), calibrated(20, repeat=1)
    assert first.intervals == second.intervals
    assert first.errors == second.errors


MODEL = IntervalModel(0.9, (), (-10.0,), (20.0,), (1,), 9, mean_half_width=(5.0,))


def spiked(chips=20):
    """A third of the pixels at the end of a cell, with errors that its middle would cover."""
    generator = np.random.default_rng(7)
    agb, maps = {}, {}
    for number in range(chips):
        predicted = generator.uniform(100, 200, (SIZE, SIZE))
        error = generator.uniform(-1, 1, predicted.shape) * (predicted - 100)
        spike = generator.random(predicted.shape) < 0.3
        predicted[spike] = 150.0
        error[spike] = 36 * generator.choice([-1, 1], int(spike.sum()))
        agb[f"c{number:03}"] = (predicted + error).astype(np.float32)
        maps[f"c{number:03}"] = predicted.astype(np.float32)
    return Labels(agb), maps


def test_coverage_by_level_is_that_of_the_pixels_and_not_of_their_cell():
    labels, maps = spiked()
    options = OPTIONS.model_copy(update={"parts": 2})
    found = calibrate(labels, maps, list(maps), options)
    part_of = dict(zip(maps, assign_parts(len(maps), options), strict=True))
    for level, measured in zip(found.levels["level"], found.levels["pixel_coverage"], strict=True):
        inside = 0
        for part in (0, 1):
            others, here = PartCounts(), [chip for chip in maps if part_of[chip] == part]
            for chip in maps:
                if part_of[chip] != part:
                    others.update(maps[chip], labels.agb[chip])
            model = others.fit(options.model_copy(update={"level": level}))
            for chip in here:
                lower, upper = model.bounds(maps[chip])
                inside += ((labels.agb[chip] >= lower) & (labels.agb[chip] <= upper)).sum()
        assert measured == pytest.approx(inside / (len(maps) * SIZE**2), abs=1e-9), level


def test_the_nominal_level_has_one_figure():
    found = calibrated(40)
    row = found.levels.set_index("level").loc[0.9]
    metrics = found.metrics()
    assert row["pixel_coverage"] == metrics["interval_pixel_coverage"]
    assert row["chip_mean_coverage"] == metrics["interval_chip_mean_coverage"]


def test_the_standard_error_of_coverage_takes_chips_for_what_was_drawn():
    counts = CoverageCounts()
    model = replace(MODEL, mean_half_width=(1.0,))
    for number, covered in enumerate((True, True, False)):
        agb = np.full((2, 2), 50, np.float32)
        counts.update(f"c{number}", agb, agb if covered else agb + 30, model, 50.0)
    # Chips' shares 1, 1, 0: standard deviation 0.577, over the root of three.
    error = counts.summary()["pixel_coverage_standard_error"]
    assert error == pytest.approx(np.sqrt(1 / 3) / np.sqrt(3))


def test_errors_of_totals_are_looked_at_without_the_bias_of_other_chips():
    """Of ten chips alike but for an error of their own, as large as it is on a chip left out."""
    generator = np.random.default_rng(3)
    errors = generator.normal(4, 6, 10)
    labels = Labels({f"c{n}": np.full((SIZE, SIZE), 100 - e, "f4") for n, e in enumerate(errors)})
    maps = {chip: np.full((SIZE, SIZE), 100, np.float32) for chip in labels.agb}
    found = calibrate(labels, maps, list(maps), OPTIONS)
    chips = found.coverage.per_chip()
    left_out = np.sqrt(((chips["corrected_mean"] - chips["target_mean"]) ** 2).mean())
    model = replace(found.errors, bias_covariance=(0.0,) * len(found.errors.bias_covariance))
    agb = np.full((SIZE, SIZE), 100.0)
    error = total_of_map(model, agb, np.ones(agb.shape, bool), 10.0).standard_error
    assert error == pytest.approx(left_out, rel=0.01)
    assert error > 1.05 * errors.std()


def test_what_has_no_label_does_not_calibrate():
    """Chips whose right half has no label give what their left halves give."""
    labels, maps = forest(20)
    half = SIZE // 2
    left = Labels({name: agb[:, :half] for name, agb in labels.agb.items()}, width=half)
    cut = {name: agb[:, :half] for name, agb in maps.items()}
    partly = {name: agb.copy() for name, agb in labels.agb.items()}
    for agb in partly.values():
        agb[:, half:] = np.nan
    whole = calibrate(left, cut, list(cut), OPTIONS)
    found = calibrate(Labels(partly), maps, list(maps), OPTIONS)
    assert found.intervals == whole.intervals
    assert found.errors.bias == whole.errors.bias
    assert found.errors.deviation == whole.errors.deviation
    assert found.metrics() == whole.metrics()
    assert found.coverage.per_chip()["pixels"].tolist() == [SIZE * half] * 20
    # The correlation of the nearest pixels, as those of the labelled half are.
    assert found.errors.correlation[1] == pytest.approx(whole.errors.correlation[1], abs=1e-9)


def test_blocks_stay_whole_and_calibrate_others_only():
    """Five chips a block that err alike: what is measured is measured on blocks left out."""
    units = np.repeat(np.arange(8), 5)
    parts = assign_parts(40, OPTIONS, units)
    assert all(len(np.unique(parts[units == unit])) == 1 for unit in range(8))
    assert (assign_parts(40, OPTIONS) == assign_parts(40, OPTIONS, np.arange(40))).all()

    generator = np.random.default_rng(5)
    agb = {f"c{number:03}": generator.gamma(2, 40, (8, 8)).astype("f4") for number in range(40)}
    errors = np.repeat(generator.normal(0, 15, 8), 5) + generator.normal(0, 2, 40)
    maps = {name: agb[name] + np.float32(e) for name, e in zip(agb, errors, strict=True)}
    blocks = dict(zip(agb, units.tolist(), strict=True))
    options = OPTIONS.model_copy(update={"minimum_pixels": 10})
    alone = calibrate(Labels(agb, 8, 8), maps, list(maps), options)
    whole = calibrate(Labels(agb, 8, 8), maps, list(maps), options, blocks)
    assert whole.intervals == alone.intervals  # what is handed on comes from all chips
    assert whole.errors.chips == 40
    # With chips as units the neighbours of a chip have told what it is wrong by.
    assert (
        whole.metrics()["interval_pixel_coverage_standard_error"]
        > 1.3 * alone.metrics()["interval_pixel_coverage_standard_error"]
    )
    assert whole.metrics()["interval_pixel_coverage"] < alone.metrics()["interval_pixel_coverage"]


def test_the_standard_error_of_coverage_over_blocks_worked_by_hand():
    """Two blocks: of one both chips are covered, of the other none."""
    counts = CoverageCounts(blocks={"c0": 4, "c1": 4, "c2": 9, "c3": 9})
    model = replace(MODEL, mean_half_width=(1.0,))
    for number, covered in enumerate((True, True, False, False)):
        agb = np.full((2, 2), 50, np.float32)
        counts.update(f"c{number}", agb, agb if covered else agb + 30, model, 50.0)
    # Misses of 4 and −4 pixels, doubled for two units, of 16 pixels.
    expected = np.sqrt((4**2 + 4**2) * 2) / 16
    assert counts.summary()["pixel_coverage_standard_error"] == pytest.approx(expected)
