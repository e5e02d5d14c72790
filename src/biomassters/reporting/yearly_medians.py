"""A year of images condensed to one value a band and pixel."""

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import BANDS, CLP_NONE, S1, S1_LEAST_DB
from biomassters.chips.chip import Chip

_BLOCK = 2048  # pixels whose year of 15 bands stays in a processor's cache


def yearly_medians(chip: Chip, pixels: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Median over the months that hold data, per band.

    A Sentinel-1 value of −9999 (anything below −100 dB), a Sentinel-2 pixel that is 0 in every
    optical band, and a cloud probability of 255 are no data.

    Args:
        chip: The chip.
        pixels: Which of the chip's H·W pixels, row by row; None for all.

    Returns:
        float32 [15, P] in the order of ``bands.BANDS``; NaN where no month holds data.
    """
    s1 = chip.s1_db.reshape(*chip.s1_db.shape[:2], -1)
    s2 = chip.s2.reshape(*chip.s2.shape[:2], -1)
    if pixels is not None:
        s1, s2 = s1[..., pixels], s2[..., pixels]
    count = s1.shape[-1]
    medians_CP = np.empty((len(BANDS), count), np.float32)
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        medians_CP[: len(S1.bands), block] = _median(_s1_values(s1[..., block]))
        medians_CP[len(S1.bands) :, block] = _median(_s2_values(s2[..., block]))
    return medians_CP


def _s1_values(s1_TCP: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(s1_TCP < S1_LEAST_DB, np.float32(np.nan), s1_TCP)


def _s2_values(s2_TCP: NDArray[np.uint16]) -> NDArray[np.float32]:
    values = s2_TCP.astype(np.float32)
    values[:, -1][s2_TCP[:, -1] == CLP_NONE] = np.nan
    unseen_TP = ~np.asarray(s2_TCP[:, :-1].any(axis=1))
    values[np.broadcast_to(unseen_TP[:, None], values.shape)] = np.nan
    return values


def _median(x_TCP: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the first axis, NaN left out: what ``np.nanmedian`` gives, much faster."""
    holds_data = ~np.isnan(x_TCP)
    count = holds_data.sum(axis=0)
    ordered = np.where(holds_data, x_TCP, np.float32(np.inf))
    _sort_first_axis(ordered)
    lower, upper = (
        np.take_along_axis(ordered, np.clip(rank, 0, len(x_TCP) - 1)[None], axis=0)[0]
        for rank in ((count - 1) // 2, count // 2)
    )
    return np.where(count > 0, (lower + upper) / 2, np.float32(np.nan))


def _sort_first_axis(x: NDArray[np.float32]) -> None:
    """In place, by comparing whole neighbouring slices: a year is short enough for that."""
    larger = np.empty_like(x[0])
    for end in range(len(x) - 1, 0, -1):
        for i in range(end):
            np.maximum(x[i], x[i + 1], out=larger)
            np.minimum(x[i], x[i + 1], out=x[i])
            x[i + 1] = larger
