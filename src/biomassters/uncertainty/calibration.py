"""From counted residuals and chip means to interval models."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.errors import BadInputError
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.mondrian import allowed_misses, candidates, join_cells
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.residual_counts import BIN_EDGES, ResidualCounts
from biomassters.uncertainty.tail_split import choose_splits


@dataclass(frozen=True)
class ChipMeans:
    """Mean AGB of chips.

    Attributes:
        predicted: Mg/ha.
        target: Mg/ha.
    """

    predicted: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)

    def update(self, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Take in one chip, real [H, W] each, Mg/ha."""
        self.predicted.append(float(prediction.mean(dtype=np.float64)))
        self.target.append(float(target.mean(dtype=np.float64)))

    def __add__(self, other: "ChipMeans") -> "ChipMeans":
        return ChipMeans(self.predicted + other.predicted, self.target + other.target)

    def __len__(self) -> int:
        return len(self.predicted)


def fewest_chips(level: float) -> int:
    """Chips that a level needs at least: fewer cannot rule out anything."""
    count = 1
    while allowed_misses(count, level) < 0:
        count += 1
    return count


def check_chip_count(chips: int, level: float) -> None:
    """Refuse a level that so few chips cannot support.

    Raises:
        BadInputError: There are fewer than the level needs.
    """
    needed = fewest_chips(level)
    if chips < needed:
        highest = np.floor(100 * chips / (chips + 1)) / 100
        raise BadInputError(
            f"Intervals at level {level:g} need at least {needed} held-out chips with labels, and "
            f"there {'is' if chips == 1 else 'are'} {chips}; hold out more chips "
            f"(data_engineering.folds.count), or set uncertainty.level to {highest:g} or less."
        )


def fit_intervals(
    counts: ResidualCounts, means: ChipMeans, options: UncertaintyOptions
) -> IntervalModel:
    """An interval model from everything that was counted.

    Args:
        counts: Residuals of all pixels.
        means: Of the same chips.
        options: Level, sizes of bins, tolerance over the classes.

    Raises:
        BadInputError: There are fewer chips than the level needs.
    """
    check_chip_count(len(means), options.level)
    binned = join_cells(counts, options.minimum_pixels)
    choices = candidates(binned, options.level)
    split = choose_splits(
        choices,
        binned.counts.sum(axis=(1, 2)),
        options.level,
        options.class_tolerance,
        options.minimum_class_pixels,
    )
    rows = np.arange(len(split))
    mean_edges, half_width = _fit_means(means, options)
    return IntervalModel(
        level=options.level,
        edges=tuple(binned.edges[1:-1].tolist()),
        # An interval holds its own prediction, also where the map is wrong on one side only.
        lower=tuple(np.minimum(choices.lower[rows, split], 0.0).tolist()),
        upper=tuple(np.maximum(choices.upper[rows, split], 0.0).tolist()),
        pixels=tuple(binned.pixels.tolist()),
        chips=len(means),
        spread_floor=counts.spread_floor,
        mean_edges=mean_edges,
        mean_half_width=half_width,
        centres=() if counts.spread_floor else tuple(binned.predicted.tolist()),
    )


def constant_width(counts: ResidualCounts, coverage: float) -> float:
    """Mean width of intervals ± one constant, cut off at 0, that cover a share of the pixels.

    What intervals that know of the prediction must be narrower than, Mg/ha.
    """
    sizes = np.abs(BIN_EDGES[:-1] + BIN_EDGES[1:]) / 2
    order = np.argsort(sizes, kind="stable")
    share = counts.counts.sum(axis=(0, 1))[order].cumsum() / counts.pixels.sum()
    half = sizes[order][np.searchsorted(share, coverage)]
    predicted = counts.predicted / np.maximum(1, counts.pixels)
    width = predicted + half - np.maximum(predicted - half, 0.0)
    return float((width * counts.pixels).sum() / counts.pixels.sum())


def _fit_means(
    means: ChipMeans, options: UncertaintyOptions
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bins of predicted chip means and the half-width in each: a split-conformal quantile."""
    predicted, target = np.asarray(means.predicted), np.asarray(means.target)
    order = np.argsort(predicted, kind="stable")
    bins = max(1, len(order) // options.minimum_chips)
    edges, half_widths = [], []
    for number, members in enumerate(np.array_split(order, bins)):
        if number:
            edges.append(float(predicted[members[0]]))
        half_widths.append(_conformal_quantile(np.abs(target - predicted)[members], options.level))
    return tuple(edges), tuple(half_widths)


def _conformal_quantile(scores: NDArray[np.float64], level: float) -> float:
    """The ⌈(n + 1) · level⌉-th smallest of n scores."""
    return float(np.sort(scores)[len(scores) - 1 - allowed_misses(len(scores), level)])
