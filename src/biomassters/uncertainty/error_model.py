"""Bias, spread and likeness of errors, as held-out chips show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.correlation import CorrelationSums
from biomassters.uncertainty.plain_values import PlainValues
from biomassters.uncertainty.residual_counts import CELL_EDGES

if TYPE_CHECKING:
    from biomassters.uncertainty.totals import Total


@dataclass(frozen=True)
class ErrorModel(PlainValues):
    """What is needed to add up predictions honestly.

    Attributes:
        edges: Inner edges of the bins of predicted AGB, Mg/ha.
        bias: Mean of prediction − target by bin, Mg/ha: taken away from the prediction.
        deviation: Standard deviation of the errors by bin, Mg/ha.
        distance_m: Distances between pixels, from 0, in metres.
        correlation: Of the errors of two pixels at each distance; beyond the last as there.
        inflation: Factor on the standard errors, so that those of the held-out chips' own totals
            are as large as their errors were.
        bias_error: Standard error of the mean bias, Mg/ha: common to all pixels of any map.
        level: Of the intervals of totals.
        chips: Chips that all this was estimated on.
    """

    edges: tuple[float, ...]
    bias: tuple[float, ...]
    deviation: tuple[float, ...]
    distance_m: tuple[float, ...]
    correlation: tuple[float, ...]
    inflation: float
    bias_error: float
    level: float
    chips: int

    def corrected(self, prediction: NDArray[Any]) -> NDArray[np.float64]:
        """Prediction without its bias, any shape, Mg/ha."""
        predicted = np.asarray(prediction, np.float64)
        return predicted - np.asarray(self.bias)[self._bins(predicted)]

    def deviations(self, prediction: NDArray[Any]) -> NDArray[np.float64]:
        """Standard deviation of each prediction's error, same shape, Mg/ha."""
        return np.asarray(self.deviation)[self._bins(prediction)]

    def correlation_at(self, distance_m: NDArray[Any]) -> NDArray[np.float64]:
        """Correlation of the errors of pixels so far apart, any shape.

        Pixels farther apart than chips are wide share a year's images and weather as those at
        the two ends of a chip do: their correlation doesn't fall any further.
        """
        return np.interp(distance_m, self.distance_m, self.correlation)

    def total(
        self,
        prediction_HW: NDArray[Any],
        valid_HW: NDArray[np.bool_],
        pixel_area_ha: float,
        pixel_size_m: float,
    ) -> "Total":
        """Biomass of one map that fits in memory; see ``RegionTotals`` for larger ones.

        Args:
            prediction_HW: AGB, Mg/ha.
            valid_HW: Pixels that count.
            pixel_area_ha: Of one pixel.
            pixel_size_m: Distance between neighbouring pixels.
        """
        from biomassters.uncertainty.totals import RegionTotals

        region = RegionTotals(self, pixel_size_m, pixel_area_ha)
        region.update(prediction_HW, valid_HW, 0, 0)
        return region.total()

    def _bins(self, prediction: NDArray[Any]) -> NDArray[np.int64]:
        return np.searchsorted(self.edges, prediction, side="right")


class ErrorSums:
    """Errors of chips by bin of predicted AGB; first of two passes.

    Args:
        edges: Inner edges of the bins, Mg/ha.
    """

    def __init__(self, edges: Sequence[float] = tuple(CELL_EDGES[1:-1].tolist())) -> None:
        self._edges = tuple(edges)
        self._sums = np.zeros((3, len(edges) + 1))  # pixels, errors, squared errors
        self._chips: list[tuple[int, float]] = []  # pixels, sum of errors

    def update(self, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Take in one chip, Mg/ha."""
        predicted = np.asarray(prediction, np.float64).ravel()
        error = predicted - np.asarray(target, np.float64).ravel()
        bins = np.searchsorted(self._edges, predicted, side="right")
        for row, weights in enumerate((None, error, error**2)):
            self._sums[row] += np.bincount(bins, weights, self._sums.shape[1])
        self._chips.append((error.size, float(error.sum())))

    def joined(self, edges: Sequence[float]) -> "ErrorSums":
        """The same errors on fewer bins.

        Args:
            edges: Inner edges of the new bins; each is one of the old.
        """
        first = [0, *(1 + self._edges.index(edge) for edge in edges)]
        sums = ErrorSums(edges)
        sums._sums = np.add.reduceat(self._sums, first, axis=1)
        sums._chips = self._chips
        return sums

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        assert self._edges == other._edges, "sums on other bins"
        sums = ErrorSums(self._edges)
        sums._sums = self._sums + other._sums
        sums._chips = self._chips + other._chips
        return sums

    def corrected_mean(self, prediction: NDArray[Any]) -> float:
        """Mean of a prediction without its bias, Mg/ha."""
        predicted = np.asarray(prediction, np.float64)
        bins = np.searchsorted(self._edges, predicted, side="right")
        return float((predicted - self.bias()[bins]).mean())

    def bias(self) -> NDArray[np.float64]:
        """Mean error by bin, Mg/ha."""
        found: NDArray[np.float64] = self._sums[1] / np.maximum(1, self._sums[0])
        return found

    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of the errors by bin, Mg/ha."""
        mean_square = self._sums[2] / np.maximum(1, self._sums[0])
        return np.sqrt(np.maximum(mean_square - self.bias() ** 2, 0.0))

    def bias_error(self) -> float:
        """Standard error of the mean error, chips being what was drawn; 0 with one chip."""
        if len(self._chips) < 2:
            return 0.0
        means = np.array([total / pixels for pixels, total in self._chips])
        return float(means.std(ddof=1) / np.sqrt(len(means)))

    def unbiased(
        self, prediction: NDArray[Any], target: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A chip's errors without bias and their standard deviations: for the second pass."""
        predicted = np.asarray(prediction, np.float64)
        bins = np.searchsorted(self._edges, predicted, side="right")
        error = predicted - np.asarray(target, np.float64)
        return error - self.bias()[bins], self.deviation()[bins]

    def model(self, sums: CorrelationSums, pixel_size_m: float, level: float) -> ErrorModel:
        """Everything together.

        Args:
            sums: Of the same chips.
            pixel_size_m: Of these chips.
            level: Of the intervals of totals.
        """
        distance, correlation = sums.curve()
        return ErrorModel(
            edges=tuple(self._edges),
            bias=tuple(self.bias().tolist()),
            deviation=tuple(self.deviation().tolist()),
            distance_m=tuple((distance * pixel_size_m).tolist()),
            correlation=tuple(correlation.tolist()),
            inflation=sums.inflation(),
            bias_error=self.bias_error(),
            level=level,
            chips=len(self._chips),
        )
