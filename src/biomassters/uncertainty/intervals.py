"""Lower and upper bounds of predicted biomass: split-conformal, by predicted AGB."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.errors import BadInputError
from biomassters.uncertainty.json_model import PlainValues
from biomassters.uncertainty.residual_counts import residual_scale

SMOOTH_FROM_MG_PER_HA = 10.0
"""From here on ends go over from bin to bin. Below, where predictions of bare ground gather in bins
a few Mg/ha wide, the next bin's wider ends would cover bare ground far more than was asked for."""


@dataclass(frozen=True)
class IntervalModel(PlainValues):
    """Bounds that hold the target in ``level`` of all cases.

    Attributes:
        level: Nominal coverage, in (0, 1).
        edges: Inner edges of the Mondrian bins of predicted AGB, Mg/ha; one less than bins.
        lower: Residual (target − prediction) at the lower end by bin, Mg/ha.
        upper: Residual at the upper end by bin, Mg/ha.
        pixels: Pixels that each bin was calibrated on.
        chips: Chips that it was calibrated on.
        spread_floor: Residuals grow with ``1 + spread / spread_floor``; None: they don't.
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
    spread_floor: float | None = None
    mean_edges: tuple[float, ...] = ()
    mean_half_width: tuple[float, ...] = ()
    centres: tuple[float, ...] = ()

    @property
    def needs_spread(self) -> bool:
        """Whether ``bounds`` must be given the views' spread."""
        return self.spread_floor is not None

    def bounds(
        self, prediction: NDArray[Any], spread: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bound of each pixel.

        Args:
            prediction: AGB, real, any shape, Mg/ha; NaN stays NaN.
            spread: Standard deviation over the test-time views, same shape, Mg/ha; only read
                where ``needs_spread``.

        Returns:
            float32 of the same shape, Mg/ha, 0 or more.

        Raises:
            BadInputError: The model needs the spread and it isn't given.
        """
        if self.needs_spread and spread is None:
            raise BadInputError(
                "These intervals use the spread of the test-time views, which the predictions "
                "lack; predict again with more than one view in inference.views."
            )
        predicted = np.asarray(prediction, np.float64)
        scale = residual_scale(spread, self.spread_floor, predicted.shape)
        lower, upper = (
            np.maximum(predicted + ends * scale, 0.0).astype(np.float32)
            for ends in self.ends(predicted)
        )
        unknown = np.isnan(predicted)
        lower[unknown], upper[unknown] = np.nan, np.nan
        return lower, upper

    def ends(
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

        It is calibrated on chip means, because the errors of a chip's pixels are alike. It
        holds for areas of a chip's size only.
        """
        means = np.asarray(mean_prediction, np.float64)
        bins = np.searchsorted(self.mean_edges, means, side="right")
        half = np.asarray(self.mean_half_width)[bins]
        return np.maximum(means - half, 0.0), means + half
