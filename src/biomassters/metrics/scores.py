"""Scores of many chips, one chip in memory at a time: per chip, pooled and by biomass class.

The challenge's score is the mean over chips of each chip's RMSE over all its pixels (Nascetti et
al., NeurIPS 2023 Datasets and Benchmarks). What is summed, and why that loses no digits:
``pixel_sums``.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.errors import BadInputError
from biomassters.metrics.pixel_sums import PixelSums, checked_pixels

AGB_UNIT = "Mg/ha"
# Labels of 400 Mg/ha and more are rare outliers of the source; the first place's loss leaves
# them out, the challenge's score does not.
LABEL_LIMIT_MG_PER_HA = 400.0
CLASS_EDGES_MG_PER_HA = (0.0, 50.0, 100.0, 150.0, 200.0)
CLASS_NAMES = ("0", "0-50", "50-100", "100-150", "150-200", ">200")


class ScoreAccumulator:
    """Scores of any number of chips."""

    def __init__(self) -> None:
        self._chips: dict[str, tuple[PixelSums, PixelSums]] = {}  # all pixels, label mask only
        self._classes = [PixelSums() for _ in CLASS_NAMES]

    def update(self, chip_id: str, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Take in one chip.

        Args:
            chip_id: Name of the chip; each counts once.
            prediction: Real [H, W], Mg/ha.
            target: Real [H, W], Mg/ha.

        Raises:
            BadInputError: Shapes differ, a pixel is NaN or infinite, or the chip came before.
        """
        _refuse_twice(self._chips.keys() & {chip_id})
        predicted, truth = checked_pixels(chip_id, prediction, target)
        error = predicted - truth

        def sums(pixels: NDArray[np.bool_]) -> PixelSums:
            return PixelSums.of(error[pixels], truth[pixels])

        everything, masked = PixelSums.of(error, truth), sums(truth < LABEL_LIMIT_MG_PER_HA)
        self._chips[chip_id] = everything, masked
        # side="left": 50 belongs to 0-50, 0 (and below) to the class of bare ground.
        classes = np.searchsorted(CLASS_EDGES_MG_PER_HA, truth, side="left")
        for index in np.unique(classes):
            self._classes[index] += sums(classes == index)

    def merge(self, other: "ScoreAccumulator") -> None:
        """Take in the chips that another accumulator scored.

        Raises:
            BadInputError: A chip is in both.
        """
        _refuse_twice(self._chips.keys() & other._chips.keys())
        self._chips.update(other._chips)
        self._classes = [a + b for a, b in zip(self._classes, other._classes, strict=True)]

    def per_chip(self) -> pd.DataFrame:
        """One row a chip, in the order of arrival.

        Returns:
            chip_id, pixels, rmse, mae, bias, r2, target_mean, prediction_mean, r2_note (why r2
            is NaN, else ""), rmse_masked (target < 400 Mg/ha; NaN without such a pixel).
        """
        rows = [
            {"chip_id": chip_id, "pixels": everything.pixels}
            | everything.scores()
            | {"r2_note": everything.r2_note, "rmse_masked": masked.scores()["rmse"]}
            for chip_id, (everything, masked) in self._chips.items()
        ]
        columns = ["chip_id", "pixels", *PixelSums().scores(), "r2_note", "rmse_masked"]
        return pd.DataFrame(rows, columns=columns)

    def by_class(self) -> pd.DataFrame:
        """One row a biomass class of the target, all of ``CLASS_NAMES`` in order.

        Returns:
            biomass_class, pixels, pixel_share, rmse, mae, bias, target_mean, prediction_mean;
            NaN scores in a class without pixels.
        """
        total = max(1, sum(sums.pixels for sums in self._classes))
        rows = [
            {"biomass_class": name, "pixels": sums.pixels, "pixel_share": sums.pixels / total}
            | sums.scores()
            for name, sums in zip(CLASS_NAMES, self._classes, strict=True)
        ]
        # Within a slice of the target R² compares with that slice's mean: misleading.
        return pd.DataFrame(rows).drop(columns="r2")

    def summary(self) -> dict[str, Any]:
        """The scores of all chips together, ready for JSON: None instead of NaN.

        Returns:
            rmse_per_chip_mean (the challenge's score), rmse_masked_per_chip_mean (target < 400
            Mg/ha, over the chips that have such pixels), rmse_pooled, mae, bias, r2, r2_note,
            target_mean, prediction_mean (all but r2 in Mg/ha), chips, pixels.
        """
        everything = [sums for sums, _ in self._chips.values()]
        masked = [sums for _, sums in self._chips.values() if sums.pixels]
        pooled = sum(everything, PixelSums())
        scores = pooled.scores()
        values = {
            "rmse_per_chip_mean": _mean_rmse(everything),
            "rmse_masked_per_chip_mean": _mean_rmse(masked),
            "rmse_pooled": scores.pop("rmse"),
            **scores,
        }
        counts = {"r2_note": pooled.r2_note, "chips": len(self._chips), "pixels": pooled.pixels}
        summary = {name: None if math.isnan(value) else value for name, value in values.items()}
        return summary | counts


def _refuse_twice(chip_ids: set[str]) -> None:
    if chip_ids:
        raise BadInputError(f"Chip {min(chip_ids)} is scored twice; give every chip once.")


def _mean_rmse(chips: list[PixelSums]) -> float:
    return math.fsum(sums.scores()["rmse"] for sums in chips) / len(chips) if chips else math.nan


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
            np.clip(values / self.top_mg_per_ha * self.bins, 0, self.bins - 1).astype(np.int64)
            for values in checked_pixels(chip_id, prediction, target)
        )
        flat = np.bincount(truth * self.bins + predicted, minlength=self.bins**2)
        self.counts += flat.reshape(self.bins, self.bins)
