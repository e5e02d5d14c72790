"""Scores of many chips.

The challenge's score is the mean over chips of each chip's RMSE over all its pixels (Nascetti et
al., NeurIPS 2023 Datasets and Benchmarks).
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.errors import BadInputError
from biomassters.metrics.classes import (
    CLASS_EDGES_MG_PER_HA,
    CLASS_NAMES,
    LABEL_LIMIT_MG_PER_HA,
)
from biomassters.metrics.pixel_sums import PixelSums, checked_pixels


class ScoreAccumulator:
    """Scores of any number of chips, one chip in memory at a time."""

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
        if chip_id in self._chips:
            raise BadInputError(f"Chip {chip_id} is scored twice; give every chip once.")
        predicted, truth = checked_pixels(chip_id, prediction, target)
        error = predicted - truth
        unmasked = truth < LABEL_LIMIT_MG_PER_HA
        self._chips[chip_id] = (
            PixelSums.of(error, truth),
            PixelSums.of(error[unmasked], truth[unmasked]),
        )
        # side="left": 50 belongs to 0-50, 0 (and below) to the class of bare ground.
        classes = np.searchsorted(CLASS_EDGES_MG_PER_HA, truth, side="left")
        for index in np.unique(classes):
            inside = classes == index
            self._classes[index] += PixelSums.of(error[inside], truth[inside])

    def merge(self, other: "ScoreAccumulator") -> None:
        """Take in the chips that another accumulator scored.

        Raises:
            BadInputError: A chip is in both.
        """
        twice = sorted(self._chips.keys() & other._chips.keys())
        if twice:
            raise BadInputError(f"Chip {twice[0]} is scored twice; give every chip once.")
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
        rows = []
        for name, sums in zip(CLASS_NAMES, self._classes, strict=True):
            scores = sums.scores()
            # Within a slice of the target R² compares with that slice's mean: misleading.
            del scores["r2"]
            share = sums.pixels / total
            rows.append({"biomass_class": name, "pixels": sums.pixels, "pixel_share": share})
            rows[-1] |= scores
        return pd.DataFrame(rows)

    def summary(self) -> dict[str, Any]:
        """The scores of all chips together, ready for JSON: None instead of NaN.

        Returns:
            rmse_per_chip_mean (the challenge's score), rmse_masked_per_chip_mean (target < 400
            Mg/ha, over the chips that have such pixels), rmse_pooled, mae, bias, r2, r2_note,
            target_mean, prediction_mean (all but r2 in Mg/ha), chips, pixels.
        """
        pooled = sum((sums for sums, _ in self._chips.values()), PixelSums())
        scores = pooled.scores()
        chips = [(every.scores()["rmse"], masked) for every, masked in self._chips.values()]
        masked_rmse = [masked.scores()["rmse"] for _, masked in chips if masked.pixels]
        values = {
            "rmse_per_chip_mean": _mean([rmse for rmse, _ in chips]),
            "rmse_masked_per_chip_mean": _mean(masked_rmse),
            "rmse_pooled": scores.pop("rmse"),
            **scores,
        }
        summary: dict[str, Any] = {
            name: None if math.isnan(value) else value for name, value in values.items()
        }
        return summary | {
            "r2_note": pooled.r2_note,
            "chips": len(self._chips),
            "pixels": pooled.pixels,
        }


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
