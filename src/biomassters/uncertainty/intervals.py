"""Lower and upper bounds of predicted biomass: split-conformal intervals, by predicted AGB.

``IntervalModel`` has them, ``bounded_maps`` adds them to a folder of maps, ``fit_intervals``
calibrates a model on the ``residuals`` of held-out chips, and ``cross_calibration`` measures how
often they hold.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.predicted_maps import Prediction, PredictionFolder
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.io.files import JsonModel
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.residuals import BIN_EDGES, ResidualCounts

log = logging.getLogger(__name__)

SMOOTH_FROM_MG_PER_HA = 10.0
"""From here on ends go over from bin to bin. Below, where predictions of bare ground gather in bins
a few Mg/ha wide, the next bin's wider ends would cover bare ground far more than was asked for."""
SPLITS = np.linspace(0.0, 1.0, 21)
"""Shares of the allowed misses that may lie below the interval."""
_ROUNDS = 200
_FIRST_STEP = 400.0  # Mg/ha of width that a class's whole coverage is worth


@dataclass(frozen=True)
class IntervalModel(JsonModel):
    """Bounds that hold the target in ``level`` of all cases.

    Attributes:
        level: Nominal coverage, in (0, 1).
        edges: Inner edges of the Mondrian bins of predicted AGB, Mg/ha; one less than bins.
        lower: Residual (target − prediction) at the lower end by bin, Mg/ha.
        upper: Residual at the upper end by bin, Mg/ha.
        pixels: Pixels that each bin was calibrated on.
        chips: Chips that it was calibrated on.
        mean_edges: Inner edges of the bins of a chip's mean predicted AGB, Mg/ha.
        mean_half_width: Half-width of the interval of a chip's mean by bin, Mg/ha.
        centres: Mean predicted AGB of each bin, Mg/ha: between the centres of bins above 10 Mg/ha
            bounds go over linearly, and never fall while the prediction rises. (): each bin
            keeps its ends everywhere.
    """

    level: float
    edges: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    pixels: tuple[int, ...]
    chips: int
    mean_edges: tuple[float, ...] = ()
    mean_half_width: tuple[float, ...] = ()
    centres: tuple[float, ...] = ()

    def bounds(self, prediction: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bound of each pixel's AGB, of any shape, Mg/ha; NaN stays NaN.

        Both are float32, 0 or more.
        """
        predicted = np.asarray(prediction, np.float64)
        lower, upper = (
            np.maximum(predicted + ends, 0.0).astype(np.float32) for ends in self._ends(predicted)
        )
        return lower, upper

    def _ends(
        self, predicted: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Residuals at the lower and at the upper end for predicted AGB, any shape, Mg/ha."""
        bins = np.searchsorted(self.edges, predicted, side="right")
        lower, upper = np.asarray(self.lower)[bins], np.asarray(self.upper)[bins]
        first = 1 + int(np.searchsorted(self.edges, SMOOTH_FROM_MG_PER_HA))
        if first >= len(self.centres):
            return lower, upper
        centres = np.asarray(self.centres[first:])
        # Widened where a bound would fall while the prediction rises.
        low = np.maximum(centres + self.lower[first:], 0.0)
        low = np.minimum.accumulate(low[::-1])[::-1]
        high = np.maximum.accumulate(centres + self.upper[first:])
        smooth = predicted >= centres[0]
        return (
            np.where(smooth, np.interp(predicted, centres, low - centres), lower),
            np.where(smooth, np.interp(predicted, centres, high - centres), upper),
        )

    def mean_bounds(
        self, mean_prediction: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper bound of the mean AGB of chips, any shape, Mg/ha.

        It is calibrated on chip means, because the errors of a chip's pixels are correlated. It
        holds for areas of a chip's size only.
        """
        means = np.asarray(mean_prediction, np.float64)
        bins = np.searchsorted(self.mean_edges, means, side="right")
        half = np.asarray(self.mean_half_width)[bins]
        return np.maximum(means - half, 0.0), means + half


def bounded_maps(predictions: PredictionFolder, intervals: IntervalModel) -> Iterator[Prediction]:
    """Each map of a folder with its bounds, one at a time."""
    for chip_id in tracked(predictions, "adding intervals to maps"):
        one = predictions.read(chip_id)
        bounds = intervals.bounds(one.agb_mg_per_ha)
        yield Prediction(chip_id, one.agb_mg_per_ha, one.georeference, bounds)


def say_if_borrowed(predictions: PredictionFolder, calibrated_on: str | None) -> None:
    """Say so if the intervals come from other weights than the maps.

    Weights fine-tuned on every label have no held-out chips, so they borrow the intervals of
    the weights that do. That is the best there is, and not the same.
    """
    fingerprint = predictions.weights_fingerprint
    if fingerprint is not None and calibrated_on is not None and fingerprint != calibrated_on:
        log.info(
            "The maps in %s come from weights (%s) other than those that the intervals were "
            "calibrated with: how often these intervals hold the truth was not measured.",
            predictions.path,
            predictions.weights,
        )


def allowed_misses(points: int, level: float) -> int:
    """How many of ``points`` calibration points may lie outside; −1 if there are too few.

    Split-conformal prediction covers ⌈(n + 1) · level⌉ of n points (Papadopoulos et al. 2002,
    "Inductive confidence machines for regression"; Vovk et al. 2005).
    """
    # Rounded first: (9 + 1) · 0.9 must be 9, whatever the last bit says.
    return points - int(np.ceil(np.round((points + 1) * level, 9)))


def fewest_chips(level: float) -> int:
    """Chips that a level needs at least: fewer cannot rule out anything."""
    return next(chips for chips in count(1) if allowed_misses(chips, level) >= 0)


def check_chip_count(chips: int, level: float) -> None:
    """Refuse, in a BadInputError, a level that so few chips cannot support."""
    needed = fewest_chips(level)
    if chips < needed:
        highest = np.floor(100 * chips / (chips + 1)) / 100
        raise BadInputError(
            f"Intervals at level {level:g} need at least {needed} held-out chips with labels, and "
            f"there {'is' if chips == 1 else 'are'} {chips}; hold out more chips "
            f"(data_engineering.folds.count), or set uncertainty.level to {highest:g} or less."
        )


def fit_intervals(
    counts: ResidualCounts, chip_means: Sequence[tuple[float, float]], options: UncertaintyOptions
) -> IntervalModel:
    """An interval model from the residuals of pixels, and each chip's mean prediction and target.

    Raises:
        BadInputError: There are fewer chips than the level needs.
    """
    check_chip_count(len(chip_means), options.level)
    binned = counts.joined(options.minimum_pixels)
    choices = candidates(binned, options.level)
    split = _choose_splits(choices, binned.counts.sum(axis=(1, 2)), options)
    rows = np.arange(len(split))
    mean_edges, half_width = _fit_means(chip_means, options)
    return IntervalModel(
        level=options.level,
        edges=tuple(binned.edges[1:-1].tolist()),
        # An interval holds its own prediction, also where the map is wrong on one side only.
        lower=tuple(np.minimum(choices.lower[rows, split], 0.0).tolist()),
        upper=tuple(np.maximum(choices.upper[rows, split], 0.0).tolist()),
        pixels=tuple(binned.pixels.tolist()),
        chips=len(chip_means),
        mean_edges=mean_edges,
        mean_half_width=half_width,
        centres=tuple(binned.mean_predicted.tolist()),
    )


def constant_width(counts: ResidualCounts, coverage: float) -> float:
    """Mean width of intervals ± one constant, cut off at 0, that cover a share of the pixels.

    What intervals that know of the prediction must be narrower than, Mg/ha.
    """
    sizes = np.abs(BIN_EDGES[:-1] + BIN_EDGES[1:]) / 2
    order = np.argsort(sizes, kind="stable")
    share = counts.counts.sum(axis=(0, 1))[order].cumsum() / counts.pixels.sum()
    half = sizes[order][np.searchsorted(share, coverage)]
    width = counts.mean_predicted + half - np.maximum(counts.mean_predicted - half, 0.0)
    return float((width * counts.pixels).sum() / counts.pixels.sum())


def _fit_means(
    chip_means: Sequence[tuple[float, float]], options: UncertaintyOptions
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bins of predicted chip means and the half-width in each: a split-conformal quantile."""
    predicted, target = np.array(chip_means, np.float64).T
    order = np.argsort(predicted, kind="stable")
    bins = np.array_split(order, max(1, len(order) // options.minimum_chips))
    edges, half_widths = [float(predicted[chips[0]]) for chips in bins[1:]], []
    for chips in bins:
        errors = np.sort(np.abs(target - predicted)[chips])
        half_widths.append(float(errors[-1 - allowed_misses(len(errors), options.level)]))
    return tuple(edges), tuple(half_widths)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Intervals that each bin could take: one for each of ``SPLITS``."""

    lower: NDArray[np.float64]  # float64 [B, S], residual at the lower end, Mg/ha
    upper: NDArray[np.float64]  # float64 [B, S], residual at the upper end, Mg/ha
    misses: NDArray[np.int64]  # int64 [classes, B, S], pixels outside
    # float64 [B, S], sum over pixels of upper − lower bound, both cut off at 0, Mg/ha.
    width: NDArray[np.float64]


def candidates(binned: ResidualCounts, level: float) -> Candidates:
    """The interval of each bin for each split of the allowed misses between its two ends."""
    shape = (len(binned.pixels), len(SPLITS))
    found = Candidates(
        np.zeros(shape),
        np.zeros(shape),
        np.zeros((len(binned.counts), *shape), np.int64),
        np.zeros(shape),
    )
    for row, (pixels, predicted) in enumerate(
        zip(binned.pixels.tolist(), binned.mean_predicted, strict=True)
    ):
        allowed = max(0, allowed_misses(pixels, level))
        below = np.floor(SPLITS * allowed).astype(np.int64)
        above = allowed - below
        cumulated = binned.counts[:, row].cumsum(axis=1)
        everywhere = cumulated.sum(axis=0)
        first = np.searchsorted(everywhere, below, side="right").clip(max=len(everywhere) - 1)
        last = np.searchsorted(everywhere, pixels - above, side="left")
        found.lower[row], found.upper[row] = BIN_EDGES[first], BIN_EDGES[last + 1]
        padded = np.pad(cumulated, ((0, 0), (1, 0)))
        found.misses[:, row] = padded[:, first] + cumulated[:, -1:] - cumulated[:, last]
        low, high = (np.maximum(predicted + ends[row], 0.0) for ends in (found.lower, found.upper))
        found.width[row] = pixels * (high - low)
    return found


def _choose_splits(
    choices: Candidates, class_pixels: NDArray[np.int64], options: UncertaintyOptions
) -> NDArray[np.int64]:
    """How each bin divides its misses between the two ends: int64 [B], index of ``SPLITS``.

    Any division keeps the coverage of the bin, so it is free to serve two ends: intervals as
    narrow as possible (asymmetric ends: Romano, Patterson & Candès 2019, "Conformalized quantile
    regression", section 3.3), and no class of the *target* that is covered far worse than the
    others. Predictions pull towards the mean, so intervals with even tails miss most of the
    tallest forest.

    Lagrange's way: every class has a price of its misses, which rises while the class is covered
    too little and falls while it is covered too much; each bin takes its cheapest split. Of those
    tried, the narrowest that keeps to the tolerance, else the one that comes closest.
    """
    bins = np.arange(len(choices.width))
    checked = class_pixels >= max(1, options.minimum_class_pixels)
    share = choices.misses / np.maximum(1, class_pixels)[:, None, None]
    width = choices.width / max(1, class_pixels.sum())
    prices = np.zeros((2, len(class_pixels)))  # of being covered too little, and too much
    best, best_rank = np.zeros(len(bins), np.int64), (np.inf, np.inf)
    for turn in range(_ROUNDS):
        split = (width + np.tensordot(prices[0] - prices[1], share, axes=1)).argmin(axis=1)
        excess = share[:, bins, split].sum(axis=1) - (1.0 - options.level)
        beyond = (np.stack([excess, -excess]) - options.class_tolerance) * checked
        rank = (max(0.0, float(beyond.max())), float(width[bins, split].sum()))
        if rank < best_rank:
            best, best_rank = split, rank
        prices = np.maximum(0.0, prices + _FIRST_STEP / (1 + turn) ** 0.5 * beyond)
    return best
