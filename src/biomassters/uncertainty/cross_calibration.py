"""Intervals and errors calibrated on held-out chips, and their coverage measured honestly.

What is exchangeable is chips, not pixels: pixels of one chip share its weather, its age and its
errors. Where folds are blocks of land, it is blocks: neighbouring chips err alike, too. So the
coverage that is reported is never that of the chips an interval was calibrated on: the held-out
chips are divided into parts, and each part is looked at with intervals calibrated on the others
(cross-conformal prediction: Vovk 2015, Annals of Mathematics and Artificial Intelligence 74). What
is handed on is calibrated on all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import PIXEL_SIZE_M
from biomassters.chips.chip import LabelledChips, positions, read_label
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import (
    CLASS_EDGES_MG_PER_HA,
    CLASS_NAMES,
    LABEL_LIMIT_MG_PER_HA,
    checked_pixels,
    labelled_pixels,
)
from biomassters.uncertainty.error_model import CorrelationSums, ErrorModel, ErrorSums
from biomassters.uncertainty.intervals import (
    IntervalModel,
    check_chip_count,
    constant_width,
    fewest_chips,
    fit_intervals,
)
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.residuals import ResidualCounts

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
NOT_MEASURED = (
    "Coverage was not measured: the held-out chips are just enough to calibrate on, and none is "
    "left to check the intervals with."
)
_MEASURED = ("pixel_coverage", "chip_mean_coverage")


@dataclass(frozen=True, eq=False)
class PartCounts:
    """What calibrating needs to know of some chips."""

    # Of their pixels.
    residuals: ResidualCounts = field(default_factory=lambda: ResidualCounts(CLASS_EDGES_MG_PER_HA))
    # Mean prediction and mean target of each chip, Mg/ha.
    means: list[tuple[float, float]] = field(default_factory=list)
    # By bin of predicted AGB.
    errors: ErrorSums = field(default_factory=lambda: ErrorSums(label_limit=LABEL_LIMIT_MG_PER_HA))

    def update(
        self, prediction: NDArray[np.float32], target: NDArray[np.float32], block: int | None = None
    ) -> None:
        """Take in one chip's labelled pixels, of any shape, Mg/ha."""
        self.residuals.update(prediction, target)
        self.means.append(
            (float(prediction.mean(dtype=np.float64)), float(target.mean(dtype=np.float64)))
        )
        self.errors.update(prediction, target, block)

    def __add__(self, other: "PartCounts") -> "PartCounts":
        return PartCounts(
            self.residuals + other.residuals, self.means + other.means, self.errors + other.errors
        )

    def fit(self, options: UncertaintyOptions) -> IntervalModel:
        """Intervals from these chips."""
        return fit_intervals(self.residuals, self.means, options)


class ChipCoverage(NamedTuple):
    """How an interval held on one chip; means and widths in Mg/ha."""

    chip_id: str
    pixels: int
    coverage: float
    mean_width: float
    prediction_mean: float
    corrected_mean: float
    mean_lower: float
    mean_upper: float
    target_mean: float
    mean_covered: bool


@dataclass
class CoverageCounts:
    """How often intervals held the target, one chip at a time."""

    # int64 [classes of the target].
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASS_NAMES), np.int64))
    # int64 [classes], pixels within their interval.
    covered: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASS_NAMES), np.int64))
    # float64 [classes], sum of the intervals' widths, Mg/ha.
    width: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(CLASS_NAMES)))
    chips: list[ChipCoverage] = field(default_factory=list)  # of each chip
    # Block of land by chip id, where chips come in blocks.
    blocks: Mapping[str, int] = field(default_factory=dict)

    def update(
        self,
        chip_id: str,
        prediction: NDArray[np.float32],
        target: NDArray[np.float32],
        model: IntervalModel,
        corrected_mean: float,
    ) -> None:
        """Take in one chip's labelled pixels, Mg/ha, with a model and a bias from other chips."""
        lower, upper = model.bounds(prediction)
        inside, width = (target >= lower) & (target <= upper), (upper - lower).astype(np.float64)
        classes = np.searchsorted(CLASS_EDGES_MG_PER_HA, target.ravel(), side="left")
        count = len(CLASS_NAMES)
        self.pixels += np.bincount(classes, minlength=count)
        self.covered += np.bincount(classes[inside.ravel()], minlength=count)
        self.width += np.bincount(classes, width.ravel(), count)
        predicted_mean = float(prediction.mean(dtype=np.float64))
        target_mean = float(target.mean(dtype=np.float64))
        low, high = (float(end) for end in model.mean_bounds(np.array(predicted_mean)))
        self.chips.append(
            ChipCoverage(
                chip_id,
                target.size,
                float(inside.mean()),
                float(width.mean()),
                predicted_mean,
                corrected_mean,
                low,
                high,
                target_mean,
                low <= target_mean <= high,
            )
        )

    def by_class(self) -> pd.DataFrame:
        """One row a biomass class of the target: pixels, coverage, mean_width (Mg/ha)."""
        seen = np.where(self.pixels > 0, self.pixels, np.nan)
        return pd.DataFrame(
            {
                "biomass_class": CLASS_NAMES,
                "pixels": self.pixels,
                "coverage": self.covered / seen,
                "mean_width": self.width / seen,
            }
        )

    def per_chip(self) -> pd.DataFrame:
        """One row a chip: the fields of ``ChipCoverage``."""
        return pd.DataFrame(self.chips, columns=list(ChipCoverage._fields))

    def summary(self) -> dict[str, Any]:
        """Coverage of pixels and of chip means, mean widths in Mg/ha, ready for JSON."""
        pixels = max(1, int(self.pixels.sum()))
        chips = self.per_chip()
        by_class = self.by_class()
        known = by_class[by_class["pixels"] > 0]
        return {
            "pixel_coverage": float(self.covered.sum() / pixels),
            "pixel_coverage_standard_error": self._standard_error(),
            "pixel_mean_width": float(self.width.sum() / pixels),
            "coverage_by_class": dict(zip(known["biomass_class"], known["coverage"], strict=True)),
            "chip_mean_coverage": float(chips["mean_covered"].mean()),
            "chip_mean_mean_width": float((chips["mean_upper"] - chips["mean_lower"]).mean()),
        }

    def _standard_error(self) -> float | None:
        """Standard error over chips, or blocks, of the pixels' coverage; None of a single one.

        That of a ratio of chip sums (Cochran 1977, "Sampling Techniques", section 6.3): pixels of
        a chip are covered or missed together, so that counting them as independent would give a
        figure many times too small.

        It says how far coverage may be off on other chips. Measured again on the same ones it would
        vary far less, as they calibrate one another.
        """
        chips = self.per_chip()
        pixels = chips["pixels"].to_numpy(np.float64)
        miss = pixels * (chips["coverage"].to_numpy() - self.covered.sum() / self.pixels.sum())
        if self.blocks:
            miss = np.bincount(unit_numbers(chips["chip_id"], self.blocks), miss)
        if len(miss) < 2:
            return None
        variance = (miss**2).sum() * len(miss) / (len(miss) - 1)
        return float(np.sqrt(variance) / pixels.sum())


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out chips say about errors."""

    intervals: IntervalModel  # calibrated on all of them, as ``errors`` are
    errors: ErrorModel
    coverage: CoverageCounts  # measured part by part; of nothing if there are too few chips
    # Mean width of intervals of one constant half-width that cover as many pixels, Mg/ha; also cut
    # off at 0.
    constant_width: float | None
    levels: pd.DataFrame  # one row a nominal level: level, pixel_coverage, chip_mean_coverage

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
    blocks: Mapping[str, int] | None = None,
) -> Calibration:
    """Calibrate on held-out chips, read twice, one at a time.

    Args:
        chips: Where the labels are.
        predictions: AGB by chip id, float32 [H, W], Mg/ha.
        chip_ids: The held-out chips, each once.
        options: Level, parts, sizes of bins.
        blocks: Block of land by chip id, where chips come in blocks: coverage is then measured on
            blocks that calibrated nothing. None or empty: each chip is a unit of its own.

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
    read = partial(_read, chips, predictions, chip_ids)
    blocks = blocks or {}
    part_of = assign_parts(len(chip_ids), options, unit_numbers(chip_ids, blocks))
    parts = [PartCounts() for _ in range(int(part_of.max()) + 1)]
    for part, (chip_id, predicted, target) in zip(
        part_of, read("calibrating intervals"), strict=True
    ):
        parts[part].update(*labelled_pixels(predicted, target), blocks.get(chip_id))
    together, others = reduce(add, parts), _others_of(parts)
    intervals, models = together.fit(options), _models_by_level(others, options)
    errors = together.errors.joined(intervals.edges)
    # Each chip's errors are looked at without the bias that the *others* show: with its own share
    # in the bias that is taken off they would look too small.
    own = errors.moments()
    moments = [one.errors.joined(intervals.edges).moments(own.deviation) for one in others]
    by_level = {level: CoverageCounts(blocks=blocks) for level in models}
    correlation = CorrelationSums()
    for part, (chip_id, predicted, target) in zip(
        part_of, read("measuring intervals"), strict=True
    ):
        of_others = moments[part] if moments else own
        correlation.update(*of_others.unbiased(predicted, target))  # 0 without a label
        predicted, target = labelled_pixels(predicted, target)
        corrected = of_others.corrected_mean(predicted)
        for level, counts in by_level.items():
            counts.update(chip_id, predicted, target, models[level][part], corrected)
    measured = {level: counts.summary() for level, counts in by_level.items()}
    share = measured[options.level]["pixel_coverage"] if options.level in measured else None
    return Calibration(
        intervals=intervals,
        errors=errors.model(correlation, PIXEL_SIZE_M, options.level, options.shared_sd),
        coverage=by_level.get(options.level, CoverageCounts()),
        constant_width=constant_width(together.residuals, share) if share else None,
        levels=pd.DataFrame(
            [(level, *(one[name] for name in _MEASURED)) for level, one in measured.items()],
            columns=["level", *_MEASURED],
        ),
    )


def _read(
    chips: LabelledChips,
    predictions: Mapping[str, NDArray[np.float32]],
    chip_ids: Sequence[str],
    what: str,
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Chip id, prediction and target of each chip, finite where there is a label."""
    indices = positions(chips, chip_ids)
    for chip_id, index in zip(tracked(chip_ids, what), indices, strict=True):
        predicted, target = predictions[chip_id], read_label(chips, index)
        checked_pixels(chip_id, *labelled_pixels(predicted, target))
        yield chip_id, predicted, target


def unit_numbers(
    chip_ids: Sequence[str] | pd.Series, blocks: Mapping[str, int]
) -> NDArray[np.int64]:
    """Number, from 0, of what each chip is exchanged with: its block, or, without blocks, it."""
    if not blocks:
        return np.arange(len(chip_ids))
    return np.unique([blocks[chip_id] for chip_id in chip_ids], return_inverse=True)[1]


def assign_parts(
    chips: int, options: UncertaintyOptions, units: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Part of each chip at random, as even as can be; more parts where chips are few.

    A block, by the number in ``units``, stays whole; None: each chip is its own.
    """
    units = np.arange(chips) if units is None else units
    count = int(units.max()) + 1
    parts = min(options.parts, count)
    if count - -(-count // parts) < fewest_chips(options.level):
        parts = count
    generator = np.random.default_rng([options.seed, count])
    return (generator.permutation(count) % parts)[units]


def _others_of(parts: Sequence[PartCounts]) -> list[PartCounts]:
    """For each part everything but it; none if there is but one part."""
    if len(parts) < 2:
        return []
    return [
        reduce(add, (*parts[:left_out], *parts[left_out + 1 :])) for left_out in range(len(parts))
    ]


def _models_by_level(
    others: Sequence[PartCounts], options: UncertaintyOptions
) -> dict[float, list[IntervalModel]]:
    """For each level that there are chips enough for, an interval model a part, from the others."""
    fewest = min((len(one.means) for one in others), default=0)
    levels = sorted(level for level in {*LEVELS, options.level} if fewest_chips(level) <= fewest)
    return {
        level: [one.fit(options.model_copy(update={"level": level})) for one in others]
        for level in levels
    }
