"""Scores of many chips, one chip in memory at a time: per chip, pooled and by biomass class.

The challenge's score is the mean over chips of each chip's RMSE over all its pixels (Nascetti et
al., NeurIPS 2023 Datasets and Benchmarks). All sums are float64; squared
deviations are merged with the pairwise update of Chan, Golub & LeVeque (1983), "Algorithms for
computing the sample variance", The American Statistician 37(3), which does not lose digits as a
difference of large sums would.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.errors import BadInputError

AGB_UNIT = "Mg/ha"
# Labels of 400 Mg/ha and more are rare outliers of the source; the first place's loss leaves
# them out, the challenge's score does not.
LABEL_LIMIT_MG_PER_HA = 400.0
CLASS_EDGES_MG_PER_HA = (0.0, 50.0, 100.0, 150.0, 200.0)
CLASS_NAMES = ("0", "0-50", "50-100", "100-150", "150-200", ">200")


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


class ScoreAccumulator:
    """Scores of any number of chips."""

    def __init__(self) -> None:
        self._chips: dict[str, tuple[PixelSums, PixelSums]] = {}  # all pixels, label mask only
        self._classes = [PixelSums() for _ in CLASS_NAMES]

    def update(self, chip_id: str, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Take in one chip, prediction and target real [H, W], Mg/ha; each counts once.

        Raises:
            BadInputError: Shapes differ, a pixel is NaN or infinite, or the chip came before.
        """
        _refuse_twice(self._chips.keys() & {chip_id})
        predicted, truth = checked_pixels(chip_id, prediction, target)
        error = predicted - truth

        def sums(pixels: Any) -> PixelSums:
            return PixelSums.of(error[pixels], truth[pixels])

        self._chips[chip_id] = sums(...), sums(truth < LABEL_LIMIT_MG_PER_HA)
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
