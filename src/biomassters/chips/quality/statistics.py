"""Statistics of the bands from histograms of whole numbers.

Sentinel-1 is counted in steps of 0.01 dB, the resolution of the chip store, Sentinel-2 in the
archive's own counts. Sums of whole numbers do not depend on the order of chips, threads or
machines, and every statistic follows from them exactly.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import (
    BAND_NAMES,
    CLP_NONE,
    S1,
    S1_LEAST_DB,
    S1_STORE_FILL,
    S1_STORE_SCALE_DB,
    S2,
)
from biomassters.chips.chip import Chip

_LEVELS = 1 << 16  # both sensors are stored in 16 bits
_S1_STEPS_PER_DB = round(1 / S1_STORE_SCALE_DB)
_S1_NODATA_LEVELS = round(S1_LEAST_DB * _S1_STEPS_PER_DB) - S1_STORE_FILL
_PERCENTS = (1, 5, 25, 50, 75, 95, 99)
STATISTICS = ("count", "min", "max", "mean", "sd", *(f"p{percent:02d}" for percent in _PERCENTS))


class LevelCounts(NamedTuple):
    """Pixels by level, of the levels that occur: uint32 [K], int64 [K].

    A level is a place in the flattened ``BandStatistics.counts``; each occurs once.
    """

    levels: NDArray[np.uint32]
    counts: NDArray[np.int64]


class BandStatistics:
    """How often each value of each band occurs.

    Left out are Sentinel-1 nodata, absent months, Sentinel-2 pixels that are 0 in every optical
    band (never seen), and cloud probabilities of 255 (none).

    Attributes:
        counts: int64 [15, 65536], pixels by band and level.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((len(BAND_NAMES), _LEVELS), np.int64)

    def update(self, chip: Chip) -> None:
        """Counts the pixels of a chip."""
        for band in range(len(S1.bands)):
            images_db = chip.s1_db[chip.present[:, 0], band]
            self.counts[band] += _count(_s1_levels(images_db))
        self.counts[: len(S1.bands), :_S1_NODATA_LEVELS] = 0
        s2 = chip.s2[chip.present[:, 1]]
        cloud = len(S2.bands) - 1
        seen = np.bitwise_or.reduce(s2[:, :cloud], axis=1) != 0
        unseen = seen.size - np.count_nonzero(seen)
        for band in range(cloud):
            counts = self.counts[len(S1.bands) + band]
            counts += _count(s2[:, band])
            counts[0] -= unseen
        self.counts[-1] += _count(s2[:, cloud][seen])
        self.counts[-1, CLP_NONE] = 0

    def occupied(self) -> LevelCounts:
        """The levels that occur, small enough to send from machine to machine."""
        (levels,) = self.counts.ravel().nonzero()
        return LevelCounts(levels.astype(np.uint32), self.counts.ravel()[levels])

    def add(self, part: LevelCounts) -> None:
        """Adds what ``occupied`` gave elsewhere."""
        self.counts.ravel()[part.levels] += part.counts

    def to_frame(self) -> pd.DataFrame:
        """One row a band (index ``band``), in dB, reflectance × 10,000 or percent.

        Columns are count, min, max, mean, sd (of the population) and p01 … p99: the least
        value that so large a share of the pixels does not exceed. A band without any pixel has
        NaN.
        """
        rows = [self._summary(band) for band in range(len(BAND_NAMES))]
        index = pd.Index(BAND_NAMES, name="band")
        return pd.DataFrame(rows, index=index, columns=list(STATISTICS))

    def _summary(self, band: int) -> dict[str, float]:
        counts = self.counts[band]
        total = int(counts.sum())
        if total == 0:
            return {"count": 0}
        (occupied,) = counts.nonzero()
        values, counts = occupied.astype(np.float64), counts[occupied]
        if band < len(S1.bands):
            values = (values + S1_STORE_FILL) / _S1_STEPS_PER_DB
        mean = float((values * counts).sum()) / total
        variance = float(((values - mean) ** 2 * counts).sum()) / total
        ranks = [-(-percent * total // 100) for percent in _PERCENTS]
        percentiles = values[np.searchsorted(np.cumsum(counts), ranks)]
        summary = (total, values[0], values[-1], mean, variance**0.5, *percentiles)
        return dict(zip(STATISTICS, summary, strict=True))


def _s1_levels(images_db: NDArray[np.float32]) -> NDArray[np.intp]:
    """Levels of dB; −9999 lies below them all and becomes level 0, the store's fill value."""
    steps = images_db * np.float32(_S1_STEPS_PER_DB)
    np.rint(steps, out=steps)
    steps -= np.float32(S1_STORE_FILL)
    return np.clip(steps, 0, _LEVELS - 1, out=steps).astype(np.intp)


def _count(levels: NDArray) -> NDArray[np.intp]:
    return np.bincount(levels.ravel(), minlength=_LEVELS)
