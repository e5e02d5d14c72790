"""Errors of whole hectares, for the thresholds that are set at that size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import PIXEL_SIZE_M

_SIDE = round(100 / PIXEL_SIZE_M)
_FROM_MG_PER_HA = 50.0


@dataclass
class HectareErrors:
    """Squared errors of squares of one hectare whose target is above 50 Mg/ha.

    ESA's Climate Change Initiative asks for a relative error below 20 % there (Biomass CCI, User
    Requirements Document).
    """

    hectares: int = 0
    squared_error: float = 0.0
    target: float = 0.0

    def update(self, prediction: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Take in one chip, [H, W] each, Mg/ha; incomplete squares at its edges are left out."""
        predicted, truth = _hectares(prediction), _hectares(target)
        tall = truth > _FROM_MG_PER_HA
        self.hectares += int(tall.sum())
        self.squared_error += float(np.square(predicted - truth)[tall].sum())
        self.target += float(truth[tall].sum())

    def summary(self) -> dict[str, Any]:
        """hectares_above_50, and their relative_rmse or None, ready for JSON."""
        relative = None
        if self.hectares:
            relative = np.sqrt(self.squared_error * self.hectares) / self.target
        return {
            "hectares_above_50": self.hectares,
            "relative_rmse_above_50": None if relative is None else float(relative),
        }


def _hectares(agb_HW: NDArray[np.float32]) -> NDArray[np.float64]:
    """Means of whole squares, float64 [H // 10, W // 10]."""
    height, width = (size // _SIDE for size in agb_HW.shape)
    cut = agb_HW[: height * _SIDE, : width * _SIDE].astype(np.float64)
    means: NDArray[np.float64] = cut.reshape(height, _SIDE, width, _SIDE).mean(axis=(1, 3))
    return means
