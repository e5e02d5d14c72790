"""Are the images like those that the weights were trained on? Medians by band and month, compared.

A cube in other units than the training chips makes a plausible, wrong map: 1,000 counts of an
offset left in, gamma0 in place of sigma0. The training chips' medians say how far places differ;
what lies beyond them is named.
"""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import (
    BAND_NAMES,
    MONTH_COUNT,
    MONTH_NAMES,
    S1,
    S2,
)
from biomassters.chips.pixel_checks import cloudy
from biomassters.chips.store.reader import ChipStore, StoreSplit
from biomassters.errors import BadInputError
from biomassters.messages import counted, listed

log = logging.getLogger(__name__)

_CHIPS = 200  # of the store, evenly spaced
_SIDE = 512  # pixels of the cube a side, evenly spaced
_BEYOND = 0.25  # of the training chips' range, on either side of it
_LEAST_RANGE = {"s1": 2.0, "s2": 100.0}  # few chips have a narrow one
_FEWEST_PIXELS = 50
_SHIFT = (700.0, 1300.0)  # counts, in the median over bands
_FEWEST_CHIPS = 5
COLUMNS = (
    "band", "month", "month_name", "cube_median", "training_low", "training_median",
    "training_high", "training_chips", "outside",
)  # fmt: skip


def image_medians(s1: NDArray[np.int16], s2: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Median of each band, in dB and counts, of what is seen and not under clouds.

    Args:
        s1: int16 [4, h, w] in 0.01 dB, −32768 without data.
        s2: uint16 [11, h, w].

    Returns:
        float64 [15]; NaN where too little is known.
    """
    medians = np.full(len(BAND_NAMES), np.nan)
    clear = (s2[:-1] != 0).any(axis=0) & ~cloudy(s2[-1])
    for number, image in enumerate((*s1, *s2[:-1])):
        known = image[image != S1.fill] if number < len(S1.bands) else image[clear]
        if known.size >= _FEWEST_PIXELS:
            scale = S1.scale if number < len(S1.bands) else 1.0
            medians[number] = np.median(known) * scale
    return medians


def compare_with_training(cube: str, store: str) -> pd.DataFrame | None:
    """The cube's medians beside the training chips', a row a band and month that both have.

    Returns:
        Columns ``COLUMNS``; None where there is no chip store, which the log says.

    Raises:
        BadInputError: The store is damaged.
    """
    try:
        split = ChipStore(store).split("train")
    except BadInputError as error:
        log.warning("The images are not compared with training chips: %s", error)
        return None
    chips = np.stack(list(_chip_medians(split)))
    here = _cube_medians(cube)
    rows = []
    for band, name in enumerate(BAND_NAMES[:-1]):
        least = _LEAST_RANGE["s1" if name in S1.bands else "s2"]
        for month in range(MONTH_COUNT):
            known = chips[:, month, band]
            known = known[np.isfinite(known)]
            value = here[month, band]
            if known.size < _FEWEST_CHIPS or not np.isfinite(value):
                continue
            low, middle, high = np.percentile(known, (1, 50, 99))
            margin = _BEYOND * max(high - low, least)
            outside = not low - margin <= value <= high + margin
            rows.append((name, month, MONTH_NAMES[month], value, low, middle, high,
                         known.size, outside))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def findings(table: pd.DataFrame) -> list[str]:
    """What lies outside, in sentences, with the likeliest reason."""
    outside = table[table["outside"]]
    sentences = []
    for sensor, unit in ((S2, "counts"), (S1, "dB")):
        found = outside[outside["band"].isin(sensor.bands)]
        if found.empty:
            continue
        mine = table[table["band"].isin(sensor.bands)]
        shift = mine["cube_median"] - mine["training_median"]
        for band, rows in found.groupby("band", sort=False):
            off = (rows["cube_median"] - rows["training_median"]).median()
            side = "above" if off > 0 else "below"
            sentences.append(
                f"{band} is {abs(off):,.{0 if sensor is S2 else 1}f} {unit} {side} the training "
                f"data in {counted(len(rows), 'month')} ({listed(rows['month_name'])})."
            )
        low, high = _SHIFT
        if sensor is S2 and low < abs(shift.median()) < high:
            way = "was not taken off" if shift.median() > 0 else "was taken off twice"
            sentences.append(
                f"All its bands together are {abs(shift.median()):,.0f} counts off: an offset of "
                f"1,000 {way}."
            )
    return sentences


def _chip_medians(split: StoreSplit) -> Iterator[NDArray[np.float64]]:
    """[12, 15] of chips, NaN in months without an image."""
    size = (split.height, split.width)
    images = {one.name: np.empty((len(one.bands), *size), one.packed_dtype) for one in (S1, S2)}
    for index in np.unique(np.linspace(0, len(split) - 1, _CHIPS).astype(int)).tolist():
        medians = []
        for month in range(MONTH_COUNT):
            split.read_month_into(index, month, images)
            medians.append(image_medians(images["s1"], images["s2"]))
        yield np.stack(medians)


def _cube_medians(place: str) -> NDArray[np.float64]:
    import zarr  # takes long to import

    group = zarr.open_group(place, mode="r")
    present = np.asarray(group["present"])
    medians = np.full((MONTH_COUNT, len(BAND_NAMES)), np.nan)
    for month in np.flatnonzero(present.any(axis=1)).tolist():
        images = []
        for name in ("s1", "s2"):
            array: Any = group[name]
            rows, columns = (slice(None, None, max(1, size // _SIDE)) for size in array.shape[-2:])
            images.append(np.asarray(array[month, :, rows, columns]))
        medians[month] = image_medians(*images)
    return medians
