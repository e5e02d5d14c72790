"""Bias, standard deviation and correlation of errors, as held-out chips show them.

``ErrorSums`` estimates them in two passes over the chips, ``ErrorModel`` holds them, and
``totals`` adds up maps with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.correlation import CorrelationSums
from biomassters.uncertainty.json_model import JsonModel
from biomassters.uncertainty.residuals import CELL_EDGES


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
        """Variance of the mean bias of a map, (Mg/ha)².

        Args:
            shares: float64 [bins], share of its pixels in each bin.
        """
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

    Attributes:
        edges: Inner edges of the bins, Mg/ha.
        label_limit: Mg/ha; below it no label is left out.
        chips: float64 [3, bins] of each chip: pixels, Σ error and Σ error².
        blocks: Block of each chip; a chip without one, None, is its own.
    """

    edges: tuple[float, ...] = tuple(CELL_EDGES[1:-1].tolist())
    label_limit: float = np.inf
    chips: list[NDArray[np.float64]] = field(default_factory=list)
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
        """The same errors on fewer bins.

        Args:
            edges: Inner edges of the new bins; each is one of the old.
        """
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
        """Bias and deviation by bin, for the second pass.

        Args:
            deviation: By bin, Mg/ha; None: that of these chips.
        """
        found = self.deviation() if deviation is None else deviation
        return ErrorMoments(self.edges, self.bias(), found, self.label_limit)

    def model(
        self, sums: CorrelationSums, pixel_size_m: float, level: float, shared_sd: float = 0.0
    ) -> ErrorModel:
        """Everything together.

        Args:
            sums: Of the same chips.
            pixel_size_m: Of these chips.
            level: Of the intervals of totals.
            shared_sd: As ``ErrorModel`` has it.
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
