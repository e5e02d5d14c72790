"""Counts of pixels by target and prediction."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.metrics.classes import LABEL_LIMIT_MG_PER_HA
from biomassters.metrics.pixel_sums import checked_pixels


@dataclass
class DensityHistogram:
    """Counts of pixels by target and prediction, on bins that never depend on the data.

    Values outside 0 … ``top_mg_per_ha`` are counted in the outermost bins.

    Attributes:
        top_mg_per_ha: Upper edge of the last bin of both axes, Mg/ha.
        bins: Bins along each axis.
        counts: int64 [bins, bins], target along the first axis, prediction along the second.
    """

    top_mg_per_ha: float = LABEL_LIMIT_MG_PER_HA
    bins: int = 100
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.bins, self.bins), np.int64)

    @property
    def edges(self) -> NDArray[np.float64]:
        """[bins + 1], Mg/ha."""
        return np.linspace(0.0, self.top_mg_per_ha, self.bins + 1)

    def update(self, chip_id: str, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Take in one chip, real [H, W] each, Mg/ha; raises BadInputError as the scores do."""
        predicted, truth = (
            self._bin(values) for values in checked_pixels(chip_id, prediction, target)
        )
        flat = np.bincount(truth * self.bins + predicted, minlength=self.bins**2)
        self.counts += flat.reshape(self.bins, self.bins)

    def _bin(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        scaled = np.clip(values / self.top_mg_per_ha * self.bins, 0, self.bins - 1)
        return scaled.astype(np.int64)
