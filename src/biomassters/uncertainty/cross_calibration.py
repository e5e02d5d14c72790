"""Intervals and errors calibrated on held-out chips, and their coverage measured honestly.

What is exchangeable is chips, not pixels: pixels of one chip share its weather, its age and its
errors. So the coverage that is reported is never that of the chips an interval was calibrated
on: the held-out chips are divided into parts, and each part is looked at with intervals
calibrated on the others (cross-conformal prediction: Vovk 2015, Annals of Mathematics and
Artificial Intelligence 74). What is handed on is calibrated on all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import PIXEL_SIZE_M
from biomassters.chips.chip import LabelledChips, positions, read_label
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import CLASS_EDGES_MG_PER_HA, LABEL_LIMIT_MG_PER_HA
from biomassters.metrics.pixel_sums import checked_pixels
from biomassters.uncertainty.calibration import (
    ChipMeans,
    check_chip_count,
    constant_width,
    fewest_chips,
    fit_intervals,
)
from biomassters.uncertainty.correlation import CorrelationSums
from biomassters.uncertainty.coverage import CoverageCounts, LevelCoverage
from biomassters.uncertainty.error_model import ErrorModel, ErrorSums
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.residual_counts import ResidualCounts

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
NOT_MEASURED = (
    "Coverage was not measured: the held-out chips are just enough to calibrate on, and none is "
    "left to check the intervals with."
)


@dataclass(frozen=True, eq=False)
class PartCounts:
    """What calibrating needs to know of some chips."""

    residuals: ResidualCounts
    means: ChipMeans
    errors: ErrorSums

    @classmethod
    def empty(cls) -> "PartCounts":
        """Of no chip."""
        errors = ErrorSums(label_limit=LABEL_LIMIT_MG_PER_HA)
        return cls(ResidualCounts(CLASS_EDGES_MG_PER_HA), ChipMeans(), errors)

    def update(self, prediction: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Take in one chip, [H, W] each, Mg/ha."""
        self.residuals.update(prediction, target)
        self.means.update(prediction, target)
        self.errors.update(prediction, target)

    def __add__(self, other: "PartCounts") -> "PartCounts":
        return PartCounts(
            self.residuals + other.residuals,
            self.means + other.means,
            self.errors + other.errors,
        )

    def fit(self, options: UncertaintyOptions) -> IntervalModel:
        """Intervals from these chips."""
        return fit_intervals(self.residuals, self.means, options)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out chips say about errors.

    Attributes:
        intervals: Calibrated on all of them.
        errors: Estimated on all of them.
        coverage: Measured part by part; of nothing if there are too few chips.
        constant_width: Mean width of intervals of one constant half-width that cover as many
            pixels, Mg/ha; also cut off at 0.
        levels: One row a nominal level: level, pixel_coverage, chip_mean_coverage.
    """

    intervals: IntervalModel
    errors: ErrorModel
    coverage: CoverageCounts
    constant_width: float | None
    levels: pd.DataFrame

    def metrics(self) -> dict[str, Any]:
        """The coverage figures, ready for JSON."""
        values: dict[str, Any] = {
            "interval_level": self.intervals.level,
            "interval_chips": self.intervals.chips,
        }
        if not self.coverage.chips:
            return values | {"interval_note": NOT_MEASURED}
        measured = {f"interval_{k}": v for k, v in self.coverage.summary().items()}
        return values | measured | {"interval_constant_mean_width": self.constant_width}


def calibrate(
    chips: LabelledChips,
    predictions: Mapping[str, NDArray[np.float32]],
    chip_ids: Sequence[str],
    options: UncertaintyOptions,
    *,
    progress: bool = True,
) -> Calibration:
    """Calibrate on held-out chips, read twice, one at a time.

    Args:
        chips: Where the labels are.
        predictions: AGB by chip id, float32 [H, W], Mg/ha.
        chip_ids: The held-out chips, each once.
        options: Level, parts, sizes of bins.
        progress: Show bars on stderr.

    Raises:
        BadInputError: A chip is unknown, without prediction or label, a value is no number, or
            there are fewer chips than the level needs.
    """
    if not chip_ids:
        raise BadInputError(
            "There are no held-out chips with labels to calibrate intervals on; weights that were "
            "trained on every label have none, so take the intervals of the fold's weights."
        )
    check_chip_count(len(chip_ids), options.level)
    held_out = _HeldOut(chips, predictions, chip_ids, progress)
    part_of = assign_parts(len(chip_ids), options)
    parts = _count(held_out, part_of)
    together, others = reduce(add, parts), others_of(parts)
    intervals, by_level = together.fit(options), models_by_level(others, options)
    models, levels = by_level.get(options.level, []), LevelCoverage(by_level)
    errors = together.errors.joined(intervals.edges)
    # Each chip's errors are looked at without the bias that the *others* show: with its own share
    # in the bias that is taken off they would look too small.
    own = errors.moments()
    moments = [one.errors.joined(intervals.edges).moments(own.deviation) for one in others]
    coverage, correlation = CoverageCounts(), CorrelationSums()
    for number, (chip_id, predicted, target) in enumerate(held_out.read("measuring intervals")):
        part = int(part_of[number])
        levels.update(predicted, target, part)
        of_others = moments[part] if moments else own
        correlation.update(*of_others.unbiased(predicted, target))
        if models:
            corrected = of_others.corrected_mean(predicted)
            coverage.update(chip_id, predicted, target, models[part], corrected)
    share = coverage.summary()["pixel_coverage"] if models else None
    return Calibration(
        intervals=intervals,
        errors=errors.model(correlation, PIXEL_SIZE_M, options.level, options.shared_sd),
        coverage=coverage,
        constant_width=constant_width(together.residuals, share) if share else None,
        levels=levels.table(),
    )


@dataclass(frozen=True, eq=False)
class _HeldOut:
    chips: LabelledChips
    predictions: Mapping[str, NDArray[np.float32]]
    chip_ids: Sequence[str]
    progress: bool

    def read(self, what: str) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
        """Chip id, prediction and target of each chip, both finite and of one shape."""
        indices = positions(self.chips, self.chip_ids)
        bar = tracked(self.chip_ids, what, shown=self.progress)
        for chip_id, index in zip(bar, indices, strict=True):
            predicted, target = self.predictions[chip_id], read_label(self.chips, index)
            checked_pixels(chip_id, predicted, target)
            yield chip_id, predicted, target


def assign_parts(chips: int, options: UncertaintyOptions) -> NDArray[np.int64]:
    """Part of each chip at random, as even as can be; more parts where chips are few."""
    parts = min(options.parts, chips)
    if chips - -(-chips // parts) < fewest_chips(options.level):
        parts = chips
    generator = np.random.default_rng([options.seed, chips])
    return generator.permutation(chips) % parts


def _count(held_out: _HeldOut, part_of: NDArray[np.int64]) -> list[PartCounts]:
    parts = [PartCounts.empty() for _ in range(int(part_of.max()) + 1)]
    for number, (_, predicted, target) in enumerate(held_out.read("calibrating intervals")):
        parts[part_of[number]].update(predicted, target)
    return parts


def others_of(parts: Sequence[PartCounts]) -> list[PartCounts]:
    """For each part everything but it; none if there is but one part."""
    if len(parts) < 2:
        return []
    return [
        reduce(add, (part for i, part in enumerate(parts) if i != left_out))
        for left_out in range(len(parts))
    ]


def fit_each(others: Sequence[PartCounts], options: UncertaintyOptions) -> list[IntervalModel]:
    """Intervals for each part from the others; none if too few chips are left."""
    needed = fewest_chips(options.level)
    if any(len(one.means) < needed for one in others):
        return []
    return [one.fit(options) for one in others]


def models_by_level(
    others: Sequence[PartCounts], options: UncertaintyOptions
) -> dict[float, list[IntervalModel]]:
    """For each level that there are chips enough for, an interval model a part.

    Args:
        others: For each part everything but it.
        options: All but the level.
    """
    found = {
        level: fit_each(others, options.model_copy(update={"level": level}))
        for level in sorted({*LEVELS, options.level})
    }
    return {level: models for level, models in found.items() if models}
