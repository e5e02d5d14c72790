"""Sums over pixels that can be merged, and the scores that follow from them.

All in float64. Means and squared deviations are merged with the pairwise update of Chan, Golub &
LeVeque (1983), "Algorithms for computing the sample variance", The American Statistician 37(3),
which does not lose digits as a difference of large sums would.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.errors import BadInputError


@dataclass
class PixelSums:
    """Sums over some pixels, merged with ``+``; errors are prediction − target in Mg/ha.

    ``target_deviation`` is the sum of the target's squared deviations from its mean.
    """

    pixels: int = 0
    error: float = 0.0
    absolute_error: float = 0.0
    squared_error: float = 0.0
    target_mean: float = 0.0
    target_deviation: float = 0.0
    target_min: float = math.inf
    target_max: float = -math.inf

    @classmethod
    def of(cls, error: NDArray[np.float64], target: NDArray[np.float64]) -> "PixelSums":
        """Sums of one set of pixels, both float64 [P]."""
        if not target.size:
            return cls()
        mean = float(target.mean())
        return cls(
            pixels=target.size,
            error=float(error.sum()),
            absolute_error=float(np.abs(error).sum()),
            squared_error=float(np.square(error).sum()),
            target_mean=mean,
            target_deviation=float(np.square(target - mean).sum()),
            target_min=float(target.min()),
            target_max=float(target.max()),
        )

    def __add__(self, other: "PixelSums") -> "PixelSums":
        if not self.pixels or not other.pixels:
            return self if self.pixels else other
        pixels = self.pixels + other.pixels
        shift = other.target_mean - self.target_mean
        return PixelSums(
            pixels=pixels,
            error=self.error + other.error,
            absolute_error=self.absolute_error + other.absolute_error,
            squared_error=self.squared_error + other.squared_error,
            target_mean=self.target_mean + shift * other.pixels / pixels,
            target_deviation=self.target_deviation
            + other.target_deviation
            + shift**2 * self.pixels * other.pixels / pixels,
            target_min=min(self.target_min, other.target_min),
            target_max=max(self.target_max, other.target_max),
        )

    def scores(self) -> dict[str, float]:
        """rmse, mae, bias, target_mean and prediction_mean in Mg/ha, r2; NaN if undefined."""
        if not self.pixels:
            names = ("rmse", "mae", "bias", "r2", "target_mean", "prediction_mean")
            return dict.fromkeys(names, math.nan)
        bias = self.error / self.pixels
        return {
            "rmse": math.sqrt(self.squared_error / self.pixels),
            "mae": self.absolute_error / self.pixels,
            "bias": bias,
            "r2": math.nan if self.r2_note else 1.0 - self.squared_error / self.target_deviation,
            "target_mean": self.target_mean,
            "prediction_mean": self.target_mean + bias,
        }

    @property
    def r2_note(self) -> str:
        """Why R² is undefined, or ""."""
        if not self.pixels:
            return "R² is undefined: nothing was scored"
        # Rounding leaves a constant's deviation above 0, tiny numbers' squares underflow to 0.
        constant = self.target_min == self.target_max or not self.target_deviation
        return "R² is undefined: every target pixel has the same value" if constant else ""


def labelled_pixels(
    prediction: NDArray[Any], target: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A chip's pixels that have a label, [P] each; both as they are where no label is missing.

    NaN in the target means no label: such pixels are left out of every score, as of every loss.
    Arrays of two shapes, or without any label, come back as well: ``checked_pixels`` refuses them.
    """
    without = np.isnan(target)
    if prediction.shape != target.shape or not without.any() or without.all():
        return prediction, target
    return prediction[~without], target[~without]


def checked_pixels(
    chip_id: str, prediction: NDArray[Any], target: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A chip's prediction and target, real [H, W], as float64 [H·W].

    Raises:
        BadInputError: Shapes differ, or a pixel is NaN or infinite.
    """
    if prediction.shape != target.shape or not target.size:
        raise BadInputError(
            f"Chip {chip_id}: the prediction has shape {prediction.shape} and the target "
            f"{target.shape}; predict the chip again at the size of its label."
        )
    for what, values in (("prediction", prediction), ("target", target)):
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise BadInputError(
                f"Chip {chip_id}: {bad} of {values.size} pixels of the {what} are NaN or infinite; "
                f"{'predict it again' if what == 'prediction' else 'repair or leave out its label'}"
                " before scoring."
            )
    return prediction.astype(np.float64).ravel(), target.astype(np.float64).ravel()
