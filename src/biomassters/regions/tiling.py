"""Where chips lie in a region, how they blend, and which of them are worked on together.

Along each axis chips lie a stride apart, the last one shifted inside. Each is weighted by a
smooth function that falls to 0 where the next one takes over; at every pixel the weights of all
chips sum to 1 (a partition of unity), so a map of equal chips is even. The weights of a pixel
are the product of those of its row and of its column.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from biomassters.regions.options import CHIP_STEP_PIXELS


@dataclass(frozen=True)
class Axis:
    """Chips along rows or columns.

    Attributes:
        length: Pixels of the region.
        chip: Pixels of a chip; at most ``length``, rounded up to what the network takes.
        stride: Pixels from one chip to the next.
        group: Chips of a block.
    """

    length: int
    chip: int
    stride: int
    group: int

    @classmethod
    def of(cls, length: int, chip: int, overlap: float, window: int) -> "Axis":
        """Lay out chips.

        Args:
            length: Pixels of the region.
            chip: Side of a chip, a multiple of 32.
            overlap: Share of it that neighbours have in common, at least.
            window: Side of a block, about.
        """
        step = CHIP_STEP_PIXELS
        chip = min(chip, -(-length // step) * step)
        # Whole strides of the network's coarsest level: its pixels then coincide in all chips.
        stride = max(step, int(chip * (1 - overlap) / step + 1e-9) * step)
        return cls(length, chip, stride, max(1, window // stride))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each chip."""
        last = max(0, self.length - self.chip)
        return (*range(0, last, self.stride), last)

    @cached_property
    def weights(self) -> tuple[NDArray[np.float32], ...]:
        """Weight of each chip's pixels, float32 [chip]; over all chips they sum to 1."""
        ramps = [self._ramps(number) for number in range(len(self.starts))]
        total = np.zeros(self.starts[-1] + self.chip)
        for start, ramp in zip(self.starts, ramps, strict=True):
            total[start : start + self.chip] += ramp
        return tuple(
            (ramp / total[start : start + self.chip]).astype(np.float32)
            for start, ramp in zip(self.starts, ramps, strict=True)
        )

    def _ramps(self, number: int) -> NDArray[np.float64]:
        """Rising and falling by squared sines over what a chip shares with its neighbours."""
        place = np.arange(self.chip) + 0.5
        weight = np.ones(self.chip)
        for other, from_edge in ((number - 1, place), (number + 1, self.chip - place)):
            if 0 <= other < len(self.starts):
                shared = self.chip - abs(self.starts[other] - self.starts[number])
                if shared > 0:
                    weight *= np.sin(np.pi / 2 * np.minimum(from_edge / shared, 1)) ** 2
        return weight

    @property
    def block_count(self) -> int:
        """Blocks along the axis."""
        return -(-len(self.starts) // self.group)

    def chips(self, block: int) -> range:
        """Numbers of a block's chips."""
        return range(block * self.group, min((block + 1) * self.group, len(self.starts)))

    def extent(self, block: int) -> tuple[int, int]:
        """First pixel of a block's chips and the one after their last."""
        chips = self.chips(block)
        return self.starts[chips[0]], self.starts[chips[-1]] + self.chip

    def core(self, block: int) -> tuple[int, int]:
        """First pixel that a block is in charge of and the one after the last; no gaps."""
        following = block + 1 < self.block_count
        return self.extent(block)[0], self.extent(block + 1)[0] if following else self.length

    def touching(self, start: int, end: int) -> list[int]:
        """Blocks with chips among some pixels."""
        extents = map(self.extent, range(self.block_count))
        return [block for block, (a, b) in enumerate(extents) if a < end and start < b]


@dataclass(frozen=True, order=True)
class Block:
    """Chips that are read and predicted together; row and column in the table of blocks."""

    row: int
    column: int

    @property
    def name(self) -> str:
        """Row and column, for files and messages."""
        return f"{self.row:04d}-{self.column:04d}"


@dataclass(frozen=True)
class Tiling:
    """Chips of a region: down its rows and to the right."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, shape: tuple[int, int], chip: int, overlap: float, window: int) -> "Tiling":
        """Lay out chips over a region of this height and width; otherwise as ``Axis.of``."""
        return cls(*(Axis.of(length, chip, overlap, window) for length in shape))

    def blocks(self) -> list[Block]:
        """Every block, row by row."""
        table = np.ndindex(self.rows.block_count, self.columns.block_count)
        return [Block(row, column) for row, column in table]

    def extent(self, block: Block) -> Window:
        """All pixels of a block's chips; may reach beyond a region that is smaller than a chip."""
        return Window.from_slices(self.rows.extent(block.row), self.columns.extent(block.column))

    def core(self, block: Block) -> Window:
        """The pixels that a block is in charge of: the cores of all blocks tile the region."""
        return Window.from_slices(self.rows.core(block.row), self.columns.core(block.column))

    def chips(self, block: Block) -> list[tuple[int, int]]:
        """Row and column numbers of a block's chips."""
        columns = self.columns.chips(block.column)
        return [(row, column) for row in self.rows.chips(block.row) for column in columns]

    def chip_window(self, row: int, column: int) -> Window:
        """Where a chip lies."""
        left, top = self.columns.starts[column], self.rows.starts[row]
        return Window(left, top, self.columns.chip, self.rows.chip)

    def weight(self, row: int, column: int) -> NDArray[np.float32]:
        """Weight of a chip's pixels, float32 [chip rows, chip columns]."""
        return np.outer(self.rows.weights[row], self.columns.weights[column])

    def touching(self, window: Window) -> list[Block]:
        """Blocks with chips in a window, row by row."""
        (top, bottom), (left, right) = window.toranges()
        columns = self.columns.touching(left, right)
        return [Block(row, column) for row in self.rows.touching(top, bottom) for column in columns]
