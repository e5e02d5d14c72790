"""Which chips are shown, and what of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import CLP_NONE, MONTH_NAMES, S2
from biomassters.chips.chip import Chip, LabelledChips, positions
from biomassters.uncertainty.intervals import IntervalModel

# Full leaf first: July, June, August, May, September; then whatever is clearest.
_LEAFY_MONTHS = tuple(
    MONTH_NAMES.index(name) for name in ("July", "June", "August", "May", "September")
)
_CLEAR_ENOUGH = 0.95
_CLOUDY_PERCENT = 50
_STRETCH_PERCENTILES = (1.0, 99.0)
_RGB = tuple(S2.bands.index(name) for name in ("B4", "B3", "B2"))


@dataclass(frozen=True, eq=False)
class ChipPicture:
    """What is shown of one chip.

    Attributes:
        chip_id: Name of the chip.
        place: Where it stands among the scored chips, as in ``"best of 24"``.
        rmse: Mg/ha.
        rgb: float32 [H, W, 3] of 0 … 1, or None without an optical image.
        rgb_month: Name of the month that ``rgb`` shows, or "".
        target: float32 [H, W], Mg/ha.
        prediction: float32 [H, W], Mg/ha.
        interval_width: Upper − lower bound, float32 [H, W], Mg/ha, or None.
    """

    chip_id: str
    place: str
    rmse: float
    rgb: NDArray[np.float32] | None
    rgb_month: str
    target: NDArray[np.float32]
    prediction: NDArray[np.float32]
    interval_width: NDArray[np.float32] | None = None

    @property
    def residual(self) -> NDArray[np.float32]:
        """Prediction − target, Mg/ha: above 0 where the map promises too much."""
        return self.prediction - self.target


def choose_pictures(
    chips: LabelledChips,
    predictions: Mapping[str, NDArray[np.float32]],
    per_chip: pd.DataFrame,
    count: int,
    intervals: IntervalModel | None = None,
) -> list[ChipPicture]:
    """Pictures of chips evenly spread from the best to the worst.

    Args:
        chips: Images and labels.
        predictions: AGB by chip id, float32 [H, W], Mg/ha.
        per_chip: ``chip_id`` and ``rmse`` of the scored chips.
        count: Chips to show at most.
        intervals: For their width, or None.

    Returns:
        Best first.
    """
    # The name decides between equals, so that the choice doesn't depend on the order.
    ranked = per_chip.sort_values(["rmse", "chip_id"], ignore_index=True)
    ranks = _spread(len(ranked), count)
    shown = ranked.iloc[ranks]
    indices = positions(chips, shown["chip_id"].tolist())
    pictures = []
    for rank, index, rmse in zip(ranks.tolist(), indices, shown["rmse"], strict=True):
        chip = chips.read_chip(index)
        assert chip.agb_mg_per_ha is not None, "a scored chip has a label"
        rgb, month = rgb_of(chip)
        prediction = np.asarray(predictions[chip.chip_id])
        pictures.append(
            ChipPicture(
                chip_id=chip.chip_id,
                place=_place(rank, len(ranked)),
                rmse=float(rmse),
                rgb=rgb,
                rgb_month=month,
                target=chip.agb_mg_per_ha,
                prediction=prediction,
                interval_width=_width(prediction, intervals),
            )
        )
    return pictures


def _width(
    prediction: NDArray[np.float32], intervals: IntervalModel | None
) -> NDArray[np.float32] | None:
    if intervals is None:
        return None
    lower, upper = intervals.bounds(prediction)
    return upper - lower


def _spread(available: int, wanted: int) -> NDArray[np.int64]:
    """Ranks from the first to the last, the median among them; it alone if one is wanted."""
    median = (available - 1) // 2
    if wanted == 1:
        return np.array([median])
    ranks = np.linspace(0, available - 1, wanted).round().astype(np.int64)
    if wanted > 2:
        ranks[1 + np.abs(ranks[1:-1] - median).argmin()] = median
    return np.unique(ranks)


def _place(rank: int, count: int) -> str:
    if count == 1:
        return "the only one"
    names = {(count - 1) // 2: "median", 0: f"best of {count}", count - 1: f"worst of {count}"}
    return names.get(rank, f"{rank + 1} of {count}")


def rgb_of(chip: Chip) -> tuple[NDArray[np.float32] | None, str]:
    """A natural-colour image of the growing season.

    Args:
        chip: The chip.

    Returns:
        float32 [H, W, 3] of 0 … 1, the three bands stretched alike, and its month's name;
        None and "" if no month shows the ground.
    """
    month = _clearest_month(chip)
    if month is None:
        return None, ""
    valid = chip.s2_valid(month)
    colours = np.moveaxis(chip.s2[month, _RGB, :, :], 0, -1).astype(np.float32)
    low, high = np.percentile(colours[valid], _STRETCH_PERCENTILES)
    stretched = np.clip((colours - low) / max(high - low, 1.0), 0.0, 1.0)
    return np.where(valid[..., None], stretched, 0.5).astype(np.float32), MONTH_NAMES[month]


def _clearest_month(chip: Chip) -> int | None:
    months: Sequence[int] = np.flatnonzero(chip.present[:, 1]).tolist()
    clear = {month: _clear_fraction(chip, month) for month in months}
    for month in _LEAFY_MONTHS:
        if clear.get(month, 0.0) >= _CLEAR_ENOUGH:
            return month
    best = max(clear, key=clear.__getitem__, default=None)
    return best if best is not None and clear[best] > 0 else None


def _clear_fraction(chip: Chip, month: int) -> float:
    cloud_percent = chip.s2[month, -1]
    cloudy = (cloud_percent > _CLOUDY_PERCENT) & (cloud_percent != CLP_NONE)
    return float((chip.s2_valid(month) & ~cloudy).mean())
