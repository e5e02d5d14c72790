"""Sums over square cells of a region, in memory that stays bounded however large it is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FINEST_PIXELS = 16
_MOST_CELLS = 2**20


class CellSums:
    """Adds up images by cell; where cells become too many, they are joined by fours.

    Args:
        images: How many images are added up side by side.
        most: Cells that are kept at most.

    Attributes:
        side: Pixels of a cell's side.
        sums: float64 [images, rows, columns], from the region's upper left corner.
    """

    def __init__(self, images: int, most: int = _MOST_CELLS) -> None:
        self.side = FINEST_PIXELS
        self.sums = np.zeros((images, 0, 0))
        self._most = most

    def add(self, images_CHW: NDArray[Any], top: int, left: int) -> None:
        """Add a block; blocks may come in any order and have any size.

        Args:
            images_CHW: Values of the block's pixels.
            top: Row of the block's first pixel in the region.
            left: Column of it.
        """
        height, width = images_CHW.shape[1:]
        self._make_room(top + height, left + width)
        rows, columns = self._groups(top, height), self._groups(left, width)
        by_row = np.add.reduceat(images_CHW, rows, axis=1)
        sums = np.add.reduceat(by_row, columns, axis=2)
        row, column = top // self.side, left // self.side
        self.sums[:, row : row + len(rows), column : column + len(columns)] += sums

    def _make_room(self, height: int, width: int) -> None:
        """Cells for so many pixels, fewer and larger ones where there would be too many."""
        rows, columns = self.sums.shape[1:]
        while True:
            rows, columns = max(rows, -(-height // self.side)), max(columns, -(-width // self.side))
            if rows * columns <= self._most:
                break
            self._join_fours()
            rows, columns = self.sums.shape[1:]
        grown = ((0, 0), (0, rows - self.sums.shape[1]), (0, columns - self.sums.shape[2]))
        if any(more for _, more in grown):
            self.sums = np.pad(self.sums, grown)

    def _join_fours(self) -> None:
        rows, columns = self.sums.shape[1:]
        even = np.pad(self.sums, ((0, 0), (0, rows % 2), (0, columns % 2)))
        by_row = even[:, ::2] + even[:, 1::2]
        self.sums = by_row[:, :, ::2] + by_row[:, :, 1::2]
        self.side *= 2

    def _groups(self, start: int, length: int) -> NDArray[np.int64]:
        """Where along an axis of a block its cells begin."""
        borders = np.arange(start // self.side + 1, -(-(start + length) // self.side)) * self.side
        return np.concatenate([[0], borders - start])
