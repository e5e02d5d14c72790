"""Statistics of the bands from histograms of whole numbers.

Values are counted in the integers of the chip store: Sentinel-1's in steps of 0.01 dB, Sentinel-2's
as the archive has them. Sums of whole numbers do not depend on the order of chips, threads or
machines, and every statistic follows from them exactly.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import BAND_NAMES, SENSOR_OF_BAND, SENSORS, Sensor, channels
from biomassters.chips.chip import Chip

_LEVELS = 1 << 16  # every sensor is stored in 16 bits
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

    Left out are absent months, pixels without data, and cloud probabilities of 255 (none).

    Attributes:
        counts: int64 [bands, 65536], pixels by band and level.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((len(BAND_NAMES), _LEVELS), np.int64)

    def update(self, chip: Chip) -> None:
        """Counts the pixels of a chip."""
        for sensor in SENSORS:
            images, exists = chip.images[sensor.name], chip.present[:, sensor.column]
            counts_CL = self.counts[channels(sensor.bands)]
            if sensor.floor is not None:
                for number, counts in enumerate(counts_CL):
                    counts += _count(_levels(images[exists, number], sensor))
                    counts[: round(sensor.floor * sensor.steps_per_unit) - sensor.fill] = 0
                continue
            images = images[exists]
            seen = np.bitwise_or.reduce(images[:, : len(sensor.measured)], axis=1) != 0
            unseen = seen.size - np.count_nonzero(seen)
            for number, (band, counts) in enumerate(zip(sensor.table, counts_CL, strict=True)):
                if band.none is None:
                    counts += _count(images[:, number])
                    counts[0] -= unseen  # cheaper than to pick out those that were seen
                else:
                    counts += _count(images[:, number][seen])
                    counts[band.none] = 0

    def occupied(self) -> LevelCounts:
        """The levels that occur, small enough to send from machine to machine."""
        (levels,) = self.counts.ravel().nonzero()
        return LevelCounts(levels.astype(np.uint32), self.counts.ravel()[levels])

    def add(self, part: LevelCounts) -> None:
        """Adds what ``occupied`` gave elsewhere."""
        self.counts.ravel()[part.levels] += part.counts

    def to_frame(self) -> pd.DataFrame:
        """One row a band (index ``band``), in its unit.

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
        sensor, counts = SENSOR_OF_BAND[BAND_NAMES[band]], counts[occupied]
        values = (occupied.astype(np.float64) + sensor.fill) / sensor.steps_per_unit
        mean = float((values * counts).sum()) / total
        variance = float(((values - mean) ** 2 * counts).sum()) / total
        ranks = [-(-percent * total // 100) for percent in _PERCENTS]
        percentiles = values[np.searchsorted(np.cumsum(counts), ranks)]
        summary = (total, values[0], values[-1], mean, variance**0.5, *percentiles)
        return dict(zip(STATISTICS, summary, strict=True))


def _levels(images: NDArray[np.floating], sensor: Sensor) -> NDArray[np.intp]:
    """Levels of floats; what is far below the floor becomes level 0, the store's fill value."""
    steps = images * np.float32(sensor.steps_per_unit)
    np.rint(steps, out=steps)
    steps -= np.float32(sensor.fill)
    return np.clip(steps, 0, _LEVELS - 1, out=steps).astype(np.intp)


def _count(levels: NDArray) -> NDArray[np.intp]:
    return np.bincount(levels.ravel(), minlength=_LEVELS)
