"""Bias, standard deviation and correlation of errors, as held-out chips show them.

``ErrorSums`` and ``CorrelationSums`` estimate them in two passes over the chips, ``ErrorModel``
holds them, and ``totals`` adds up maps with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.io.files import JsonModel
from biomassters.uncertainty.residuals import CELL_EDGES

# Distances in pixels at which a class of distances ends: fine where errors change fast.
_DISTANCE_ENDS = np.concatenate(
    [
        [0.5, 1.25, 1.75, 2.5, 3.5, 4.5, 6, 8, 10, 12, 16, 20, 24, 32],
        np.arange(40, 130, 16),
        np.arange(152, 2000, 32),
    ]
)


@dataclass(frozen=True)
class ErrorModel(JsonModel):
    """What is needed to add up predictions honestly.

    Attributes:
        edges: Inner edges of the bins of predicted AGB, Mg/ha.
        bias: Mean of prediction − target by bin, shrunk towards 0 by its own uncertainty, Mg/ha:
            subtracted from the prediction.
        deviation: Standard deviation of the errors by bin, Mg/ha.
        distance_m: Distances between pixels, from 0, in metres.
        correlation: Of the errors of two pixels at each distance; beyond the last as there.
        inflation: Factor on the standard errors, so that those of the held-out chips' own totals
            are as large as their errors were.
        bias_covariance: Of the bias by bin, row by row, (Mg/ha)²: chips are what was drawn. What
            it gives at the shares that a map has of the bins never cancels in its total.
        level: Of the intervals of totals.
        chips: Chips that all this was estimated on.
        shared_sd: Standard deviation of what all pixels of a region are wrong by beyond what
            chips show, as a share of the mean AGB.
    """

    edges: tuple[float, ...]
    bias: tuple[float, ...]
    deviation: tuple[float, ...]
    distance_m: tuple[float, ...]
    correlation: tuple[float, ...]
    inflation: float
    bias_covariance: tuple[float, ...]
    level: float
    chips: int
    shared_sd: float = 0.0

    def corrected(self, prediction: NDArray[Any]) -> NDArray[np.float64]:
        """Prediction without its bias, any shape, Mg/ha."""
        predicted = np.asarray(prediction, np.float64)
        return predicted - np.asarray(self.bias)[self.bins(predicted)]

    def deviations(self, prediction: NDArray[Any]) -> NDArray[np.float64]:
        """Standard deviation of each prediction's error, same shape, Mg/ha."""
        return np.asarray(self.deviation)[self.bins(prediction)]

    def correlation_at(self, distance_m: NDArray[Any]) -> NDArray[np.float64]:
        """Correlation of the errors of pixels so far apart, any shape.

        Pixels farther apart than chips are wide share a year's images and weather as those at
        the two ends of a chip do: their correlation doesn't fall any further.
        """
        return np.interp(distance_m, self.distance_m, self.correlation)

    def bias_variance(self, shares: NDArray[np.float64]) -> float:
        """Variance of a map's mean bias, (Mg/ha)²; ``shares`` of its pixels lie in each bin."""
        covariance = np.reshape(self.bias_covariance, (len(self.bias), len(self.bias)))
        return max(0.0, float(shares @ covariance @ shares))

    def bins(self, prediction: NDArray[Any]) -> NDArray[np.int64]:
        """Bin of each prediction, same shape."""
        return _bins(self.edges, prediction)


def _bins(edges: Sequence[float], predicted: NDArray[Any]) -> NDArray[np.int64]:
    return np.searchsorted(edges, predicted, side="right")


@dataclass(frozen=True, eq=False)
class ErrorMoments:
    """Bias and standard deviation of errors by bin, Mg/ha: for the second pass over the chips."""

    edges: tuple[float, ...]
    bias: NDArray[np.float64]
    deviation: NDArray[np.float64]
    label_limit: float

    def corrected_mean(self, prediction: NDArray[Any]) -> float:
        """Mean of a prediction without its bias, Mg/ha."""
        predicted = np.asarray(prediction, np.float64)
        return float((predicted - self.bias[_bins(self.edges, predicted)]).mean())

    def unbiased(
        self, prediction: NDArray[Any], target: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A chip's errors without bias and their standard deviations, Mg/ha.

        Both have the chip's shape, and are 0 where the label is left out.
        """
        predicted, truth = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
        kept = _label_counts(predicted, truth, self.label_limit)
        bins = _bins(self.edges, predicted)
        error = predicted - truth - self.bias[bins]
        return np.where(kept, error, 0.0), np.where(kept, self.deviation[bins], 0.0)


def _label_counts(
    predicted: NDArray[np.float64], truth: NDArray[np.float64], limit: float
) -> NDArray[np.bool_]:
    """False where a label is at least the limit and at least twice the prediction.

    Real labels hold rare values of thousands of Mg/ha, and a single one of them may be more than
    half of a bin's variance. All moments leave them out; intervals of pixels still count them.
    """
    return truth < np.maximum(limit, 2 * predicted)


@dataclass(frozen=True, eq=False)
class ErrorSums:
    """Errors of chips by bin of predicted AGB, first of two passes; sums merge with ``+``.

    What is exchangeable is a chip, or, of chips that come in blocks of land, a block.
    """

    edges: tuple[float, ...] = tuple(CELL_EDGES[1:-1].tolist())  # inner edges of the bins, Mg/ha
    label_limit: float = np.inf  # Mg/ha; below it no label is left out
    # float64 [3, bins] of each chip: pixels, Σ error and Σ error².
    chips: list[NDArray[np.float64]] = field(default_factory=list)
    # Block of each chip; a chip without one, None, is its own.
    blocks: list[int | None] = field(default_factory=list)

    def update(
        self, prediction: NDArray[Any], target: NDArray[Any], block: int | None = None
    ) -> None:
        """Take in one chip, Mg/ha."""
        predicted, truth = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
        kept = _label_counts(predicted, truth, self.label_limit)
        error, count = (predicted - truth)[kept], len(self.edges) + 1
        bins = _bins(self.edges, predicted[kept])
        powers = (np.ones_like(error), error, error**2)
        self.chips.append(np.stack([np.bincount(bins, power, count) for power in powers]))
        self.blocks.append(block)

    def joined(self, edges: tuple[float, ...]) -> "ErrorSums":
        """The same errors on fewer bins, whose inner edges are some of the old ones."""
        first = [0, *(1 + self.edges.index(edge) for edge in edges)]
        chips = [np.add.reduceat(chip, first, axis=1) for chip in self.chips]
        return ErrorSums(edges, self.label_limit, chips, self.blocks)

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        assert (self.edges, self.label_limit) == (other.edges, other.label_limit)
        return ErrorSums(
            self.edges, self.label_limit, self.chips + other.chips, self.blocks + other.blocks
        )

    def mean_error(self) -> NDArray[np.float64]:
        """Mean error by bin, Mg/ha."""
        pixels, error, _ = self._sums()
        found: NDArray[np.float64] = error / np.maximum(1, pixels)
        return found

    def bias(self) -> NDArray[np.float64]:
        """Mean error by bin, shrunk towards 0 where it may as well be chance, Mg/ha.

        b · b² / (b² + s²), s being its standard error over chips: a mean that is large beside its
        error stays, one that is not adds more error to a total than it takes away.
        """
        mean = self.mean_error()
        square = mean**2
        error = np.diag(self.bias_covariance())
        return mean * square / np.maximum(square + error, 1e-12)

    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of the errors by bin, Mg/ha."""
        pixels, _, square = self._sums()
        return np.sqrt(np.maximum(square / np.maximum(1, pixels) - self.mean_error() ** 2, 0.0))

    def bias_covariance(self) -> NDArray[np.float64]:
        """Covariance of the mean errors of the bins, float64 [bins, bins], (Mg/ha)².

        What a bootstrap over chips, or blocks of them, gives to first order, without drawing: the
        infinitesimal jackknife (Efron 1982, "The jackknife, the bootstrap and other resampling
        plans", chapter 6). 0 with a single one.
        """
        units = self._by_block()
        count = len(units)
        if count < 2:
            return np.zeros((len(self.edges) + 1,) * 2)
        pixels, error, _ = np.stack(units, axis=1)
        influence = (error - self.mean_error() * pixels) / np.maximum(1, pixels.sum(axis=0))
        found: NDArray[np.float64] = influence.T @ influence * count / (count - 1)
        return found

    def moments(self, deviation: NDArray[np.float64] | None = None) -> ErrorMoments:
        """Bias and deviation (None: that of these chips) by bin, Mg/ha, for the second pass."""
        found = self.deviation() if deviation is None else deviation
        return ErrorMoments(self.edges, self.bias(), found, self.label_limit)

    def model(
        self, sums: "CorrelationSums", pixel_size_m: float, level: float, shared_sd: float = 0.0
    ) -> ErrorModel:
        """Everything together, with the correlation of the same chips' errors.

        The level is that of the intervals of totals, ``shared_sd`` as ``ErrorModel`` has it.
        """
        distance, correlation = sums.curve()
        return ErrorModel(
            edges=self.edges,
            bias=tuple(self.bias().tolist()),
            deviation=tuple(self.deviation().tolist()),
            distance_m=tuple((distance * pixel_size_m).tolist()),
            correlation=tuple(correlation.tolist()),
            inflation=sums.inflation(),
            bias_covariance=tuple(self.bias_covariance().ravel().tolist()),
            level=level,
            chips=len(self.chips),
            shared_sd=shared_sd,
        )

    def _by_block(self) -> list[NDArray[np.float64]]:
        """What is exchangeable: the sums of each block, and of each chip without one."""
        units: list[NDArray[np.float64]] = []
        place: dict[int, int] = {}
        for chip, block in zip(self.chips, self.blocks, strict=True):
            if block in place:
                units[place[block]] = units[place[block]] + chip
                continue
            if block is not None:
                place[block] = len(units)
            units.append(chip)
        return units

    def _sums(self) -> NDArray[np.float64]:
        return np.sum(self.chips, axis=0) if self.chips else np.zeros((3, len(self.edges) + 1))


# ---- How alike the errors of neighbouring pixels are


class CorrelationSums:
    """Products of errors by distance, chip by chip.

    The correlation at a distance is Σ eᵢ eⱼ / Σ σᵢ σⱼ over the pairs of pixels so far apart, so
    that a chip's Σᵢ Σⱼ σᵢ σⱼ ρ(dᵢⱼ) is its squared total error on average. Errors are not centred
    chip by chip: what all pixels of a chip have in common does not cancel in its total.
    """

    def __init__(self) -> None:
        self._products = np.zeros(len(_DISTANCE_ENDS))
        self._pairs: list[NDArray[np.float64]] = []  # Σ σᵢ σⱼ by distance, of each chip
        self._totals: list[float] = []  # Σ eᵢ of each chip
        self._longest = np.inf

    def update(self, error_HW: NDArray[Any], deviation_HW: NDArray[Any]) -> None:
        """Take in one chip: its errors without bias and their standard deviations, [H, W].

        Autocovariance by the Wiener-Khinchin theorem, padded with zeros so that the chip's
        edges don't meet: a sum over all pairs of pixels in the time of three FFTs.
        """
        height, width = error_HW.shape
        products = _autocorrelation(np.asarray(error_HW, np.float64))
        pairs = _autocorrelation(np.asarray(deviation_HW, np.float64))
        group = _groups(height, width)
        count = len(_DISTANCE_ENDS)
        self._products += np.bincount(group, products.ravel(), count + 1)[:count]
        self._pairs.append(np.bincount(group, pairs.ravel(), count + 1)[:count].astype(np.float64))
        self._totals.append(float(np.sum(error_HW)))
        # Farther apart than a chip's side, too few pairs say anything.
        self._longest = min(self._longest, min(height, width))

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance in pixels, from 0, and correlation there, 1 at 0 and never below 0."""
        centre, used = self._distances()
        return centre[used], self._correlation()[used]

    def inflation(self) -> float:
        """Root mean square of the chips' total errors in units of what the curve expects.

        Above 1 where errors are alike in ways that the curve doesn't hold, as where chips differ
        in how wrong they are; standard errors are multiplied by it. Never below 1.
        """
        if not self._pairs:
            return 1.0
        variance = np.stack(self._pairs) @ self._correlation()
        seen = variance > 0
        ratio = np.square(self._totals)[seen] / variance[seen]
        return float(np.sqrt(max(1.0, ratio.mean()))) if seen.any() else 1.0

    def _distances(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Centre of each class of distances in pixels, and whether chips are that large."""
        starts = np.concatenate([[0.0], _DISTANCE_ENDS[:-1]])
        centre = np.where(starts == 0, 0.0, (starts + _DISTANCE_ENDS) / 2)
        # Farther apart than a chip's side, too few pairs say anything.
        return centre, centre < max(self._longest, _DISTANCE_ENDS[0])

    def _correlation(self) -> NDArray[np.float64]:
        """By class of distances; from a third of the chips' side on it is one value, and stays so.

        That value decides the error of a region, most of whose pixels are far apart. Only a chip's
        corners are as far apart as a chip is wide: from such pairs alone it came out anywhere
        between 0 and 0.05 for five sets of 40 chips, and standard errors of regions with it
        between 2 and 8 Mg/ha where maps were 5.7 Mg/ha off.
        """
        centre, used = self._distances()
        pairs = np.sum(self._pairs, axis=0) if self._pairs else np.zeros(len(_DISTANCE_ENDS))
        enough = used & (pairs > 0)
        correlation = np.clip(self._products / np.where(enough, pairs, np.inf), 0.0, 1.0)
        far = enough & (centre >= self._longest / 3)
        if far.any():
            lasting = self._products[far].sum() / pairs[far].sum()
            correlation[used & (centre >= self._longest / 3)] = np.clip(lasting, 0.0, 1.0)
        correlation[0] = 1.0
        correlation[~used] = correlation[used][-1]
        return correlation


@lru_cache(maxsize=4)
def _groups(height: int, width: int) -> NDArray[np.int64]:
    """Class of distances of each displacement, flat [2H · 2W]; one more for those left out."""
    rows = np.fft.fftfreq(2 * height, 1 / (2 * height))[:, None]
    columns = np.fft.fftfreq(2 * width, 1 / (2 * width))[None]
    group = np.searchsorted(_DISTANCE_ENDS, np.hypot(rows, columns), side="right")
    group[height], group[:, width] = len(_DISTANCE_ENDS), len(_DISTANCE_ENDS)  # no such pairs
    return group.ravel()


def _autocorrelation(x_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ x(p) · x(p + d) over all pixels, by displacement d, float64 [2H, 2W]."""
    height, width = x_HW.shape
    spectrum = np.fft.rfft2(x_HW, s=(2 * height, 2 * width))
    found: NDArray[np.float64] = np.fft.irfft2(np.abs(spectrum) ** 2, s=(2 * height, 2 * width))
    return found
