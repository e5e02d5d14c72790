"""From finished blocks to the map's pixels: blended sums, clipped, with intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.regions.block_folder import BlockFolder
from biomassters.regions.freed_memory import return_freed_memory
from biomassters.regions.grid import PixelWindow
from biomassters.regions.lattice import Lattice
from biomassters.uncertainty.intervals import IntervalModel

BANDS = ("AGB", "AGB_lower", "AGB_upper", "months_used")
AGB, LOWER, UPPER, MONTHS = range(len(BANDS))


@dataclass(frozen=True, eq=False)
class MapPiece:
    """Finished pixels.

    Attributes:
        window: Where, in the map.
        values: float32 [4, h, w], bands in the order of ``BANDS``; NaN where there is no data.
    """

    window: PixelWindow
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Assembly:
    """A map that is put together piece by piece, in the same way each time.

    Attributes:
        lattice: Chips of the region.
        folder: All blocks.
        intervals: Of the pixels; None: their bands hold no data.
        clip_negative: Set negative biomass to 0.
    """

    lattice: Lattice
    folder: BlockFolder
    intervals: IntervalModel | None
    clip_negative: bool = True

    def pieces(self) -> Iterator[MapPiece]:
        """The map, block by block."""
        for block in self.lattice.blocks():
            window = self.lattice.core(block)
            months = self.folder.months(block)
            values = np.full((len(BANDS), *window.shape), np.nan, np.float32)
            seen = months > 0
            if seen.any():
                agb, _ = self._sums(window)
                agb = np.maximum(agb, 0) if self.clip_negative else agb
                values[AGB, seen] = agb[seen]
                values[MONTHS, seen] = months[seen]
                if self.intervals is not None:
                    bounds = self.intervals.bounds(agb[seen])
                    values[LOWER, seen], values[UPPER, seen] = bounds
            yield MapPiece(window, values)
            return_freed_memory()

    def _sums(self, window: PixelWindow) -> NDArray[np.float32]:
        """Σ weight · AGB and Σ weight · spread of all chips, in the order of the blocks."""
        total = np.zeros((2, *window.shape), np.float32)
        for block in self.lattice.touching(window):
            sums = self.folder.sums(block)
            if sums is None:
                continue
            extent = self.lattice.extent(block)
            common = _common(window, extent)
            part = sums[(slice(None), *common.slices_in(extent))]
            total[(slice(None), *common.slices_in(window))] += part
        return total


def _common(one: PixelWindow, other: PixelWindow) -> PixelWindow:
    """The pixels that two windows share."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.top + one.height, other.top + other.height)
    right = min(one.left + one.width, other.left + other.width)
    return PixelWindow(top, left, bottom - top, right - left)
