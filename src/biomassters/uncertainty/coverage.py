"""How often intervals held the target, counted on chips that they were not calibrated on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.metrics import CLASS_EDGES_MG_PER_HA, CLASS_NAMES
from biomassters.uncertainty.intervals import IntervalModel

CHIP_COLUMNS = [
    "chip_id",
    "pixels",
    "coverage",
    "mean_width",
    "prediction_mean",
    "corrected_mean",
    "mean_lower",
    "mean_upper",
    "target_mean",
    "mean_covered",
]


@dataclass
class CoverageCounts:
    """Pixels and chips inside and outside their intervals, one chip at a time."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASS_NAMES), np.int64))
    covered: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASS_NAMES), np.int64))
    width: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(CLASS_NAMES)))
    chips: list[dict[str, Any]] = field(default_factory=list)

    def update(
        self,
        chip_id: str,
        prediction: NDArray[np.float32],
        target: NDArray[np.float32],
        model: IntervalModel,
        corrected_mean: float,
    ) -> None:
        """Take in one chip.

        Args:
            chip_id: Name of the chip.
            prediction: [H, W], Mg/ha.
            target: [H, W], Mg/ha.
            model: Calibrated on other chips.
            corrected_mean: Mean prediction without the bias of other chips, Mg/ha.
        """
        lower, upper = model.bounds(prediction)
        inside, width = (target >= lower) & (target <= upper), (upper - lower).astype(np.float64)
        classes = np.searchsorted(CLASS_EDGES_MG_PER_HA, target.ravel(), side="left")
        count = len(CLASS_NAMES)
        self.pixels += np.bincount(classes, minlength=count)
        self.covered += np.bincount(classes[inside.ravel()], minlength=count)
        self.width += np.bincount(classes, width.ravel(), count)
        mean_prediction = float(prediction.mean(dtype=np.float64))
        mean_target = float(target.mean(dtype=np.float64))
        low, high = (float(end) for end in model.mean_bounds(np.array(mean_prediction)))
        self.chips.append(
            {
                "chip_id": chip_id,
                "pixels": target.size,
                "coverage": float(inside.mean()),
                "mean_width": float(width.mean()),
                "prediction_mean": mean_prediction,
                "corrected_mean": corrected_mean,
                "mean_lower": low,
                "mean_upper": high,
                "target_mean": mean_target,
                "mean_covered": low <= mean_target <= high,
            }
        )

    def by_class(self) -> pd.DataFrame:
        """One row a biomass class of the target: pixels, coverage, mean_width (Mg/ha)."""
        seen = np.where(self.pixels > 0, self.pixels, np.nan)
        return pd.DataFrame(
            {
                "biomass_class": CLASS_NAMES,
                "pixels": self.pixels,
                "coverage": self.covered / seen,
                "mean_width": self.width / seen,
            }
        )

    def per_chip(self) -> pd.DataFrame:
        """One row a chip: share of its pixels covered, widths, and the interval of its mean."""
        return pd.DataFrame(self.chips, columns=CHIP_COLUMNS)

    def summary(self) -> dict[str, Any]:
        """Coverage of pixels and of chip means, mean widths in Mg/ha, ready for JSON."""
        pixels = max(1, int(self.pixels.sum()))
        chips = self.per_chip()
        by_class = self.by_class()
        known = by_class[by_class["pixels"] > 0]
        return {
            "pixel_coverage": float(self.covered.sum() / pixels),
            "pixel_coverage_standard_error": self._standard_error(),
            "pixel_mean_width": float(self.width.sum() / pixels),
            "coverage_by_class": dict(zip(known["biomass_class"], known["coverage"], strict=True)),
            "chip_mean_coverage": float(chips["mean_covered"].mean()),
            "chip_mean_mean_width": float((chips["mean_upper"] - chips["mean_lower"]).mean()),
        }

    def _standard_error(self) -> float | None:
        """Standard error of the pixels' coverage, chips being what was drawn; None of one chip.

        That of a ratio of chip sums (Cochran 1977, "Sampling Techniques", section 6.3): pixels of
        a chip are covered or missed together, so that counting them as independent would give a
        figure many times too small.

        It says how far coverage may be off on other chips. Measured again on the same ones it would
        vary far less, as they calibrate one another.
        """
        chips = self.per_chip()
        if len(chips) < 2:
            return None
        pixels = chips["pixels"].to_numpy(np.float64)
        miss = pixels * (chips["coverage"].to_numpy() - self.covered.sum() / self.pixels.sum())
        variance = (miss**2).sum() * len(chips) / (len(chips) - 1)
        return float(np.sqrt(variance) / pixels.sum())


class LevelCoverage:
    """Coverage at several levels, every pixel and every chip looked at by itself.

    Args:
        models: For each level one interval model a part, calibrated on the other parts.
    """

    def __init__(self, models: Mapping[float, Sequence[IntervalModel]]) -> None:
        self._models = dict(models)
        self._inside = {level: [0, 0] for level in self._models}  # pixels, chips
        self._pixels = self._chips = 0

    def update(
        self, prediction: NDArray[np.float32], target: NDArray[np.float32], part: int
    ) -> None:
        """Take in one chip of a part, [H, W] each, Mg/ha."""
        self._pixels += prediction.size
        self._chips += 1
        means = prediction.mean(dtype=np.float64), target.mean(dtype=np.float64)
        for level, models in self._models.items():
            lower, upper = models[part].bounds(prediction)
            low, high = models[part].mean_bounds(means[0])
            self._inside[level][0] += int(((target >= lower) & (target <= upper)).sum())
            self._inside[level][1] += int(low <= means[1] <= high)

    def table(self) -> pd.DataFrame:
        """One row a level: level, pixel_coverage, chip_mean_coverage."""
        rows = [
            (level, pixels / max(1, self._pixels), chips / max(1, self._chips))
            for level, (pixels, chips) in sorted(self._inside.items())
        ]
        return pd.DataFrame(rows, columns=["level", "pixel_coverage", "chip_mean_coverage"])
