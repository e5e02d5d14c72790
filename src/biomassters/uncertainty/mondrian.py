"""Mondrian bins: neighbouring cells of predicted AGB joined until each holds enough pixels.

Conformal prediction within categories that the prediction falls into keeps its coverage in each
of them: Vovk, Gammerman & Shafer (2005), "Algorithmic Learning in a Random World", section 4.5.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.residual_counts import BIN_EDGES, CELL_EDGES, ResidualCounts

SPLITS = np.linspace(0.0, 1.0, 21)
"""Shares of the allowed misses that may lie below the interval."""


@dataclass(frozen=True, eq=False)
class BinnedResiduals:
    """Residuals by Mondrian bin.

    Attributes:
        edges: float64 [B + 1], predicted AGB, Mg/ha; the outermost are infinite.
        counts: int64 [classes, B, bins].
        predicted: float64 [B], mean predicted AGB, Mg/ha.
        scale: float64 [B], mean of what residuals were divided by.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    predicted: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def pixels(self) -> NDArray[np.int64]:
        """int64 [B]."""
        pixels: NDArray[np.int64] = self.counts.sum(axis=(0, 2))
        return pixels


@dataclass(frozen=True, eq=False)
class Candidates:
    """Intervals that each bin could take: one for each of ``SPLITS``.

    Attributes:
        lower: float64 [B, S], residual at the lower end, Mg/ha.
        upper: float64 [B, S], residual at the upper end, Mg/ha.
        misses: int64 [classes, B, S], pixels outside.
        width: float64 [B, S], sum over pixels of upper − lower bound, both cut off at 0, Mg/ha.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    misses: NDArray[np.int64]
    width: NDArray[np.float64]


def join_cells(counts: ResidualCounts, minimum_pixels: int) -> BinnedResiduals:
    """Join neighbouring cells until every bin holds ``minimum_pixels``, as far as there are."""
    first = [0]
    held = 0
    for cell, pixels in enumerate(counts.pixels):
        if held >= minimum_pixels:
            first.append(cell)
            held = 0
        held += int(pixels)
    if held < minimum_pixels and len(first) > 1:
        first.pop()
    binned = np.add.reduceat(counts.counts, first, axis=1)
    pixels = np.maximum(1, binned.sum(axis=(0, 2)))
    return BinnedResiduals(
        edges=np.append(CELL_EDGES[first], CELL_EDGES[-1]),
        counts=binned,
        predicted=np.add.reduceat(counts.predicted, first) / pixels,
        scale=np.add.reduceat(counts.scale, first) / pixels,
    )


def allowed_misses(count: int, level: float) -> int:
    """How many of ``count`` calibration points may lie outside; −1 if there are too few.

    Split-conformal prediction covers ⌈(n + 1) · level⌉ of n points (Papadopoulos et al. 2002,
    "Inductive confidence machines for regression"; Vovk et al. 2005).
    """
    # Rounded first: (9 + 1) · 0.9 must be 9, whatever the last bit says.
    return count - int(np.ceil(np.round((count + 1) * level, 9)))


def candidates(binned: BinnedResiduals, level: float) -> Candidates:
    """The interval of each bin for each split of the allowed misses between its two ends."""
    bins, splits = len(binned.pixels), len(SPLITS)
    classes = len(binned.counts)
    found = Candidates(
        np.zeros((bins, splits)),
        np.zeros((bins, splits)),
        np.zeros((classes, bins, splits), np.int64),
        np.zeros((bins, splits)),
    )
    for row, pixels in enumerate(binned.pixels.tolist()):
        cumulated = binned.counts[:, row].cumsum(axis=1)
        below = np.floor(SPLITS * max(0, allowed_misses(pixels, level))).astype(np.int64)
        above = max(0, allowed_misses(pixels, level)) - below
        everywhere = cumulated.sum(axis=0)
        first = np.searchsorted(everywhere, below, side="right").clip(max=len(everywhere) - 1)
        last = np.searchsorted(everywhere, pixels - above, side="left")
        found.lower[row], found.upper[row] = BIN_EDGES[first], BIN_EDGES[last + 1]
        padded = np.pad(cumulated, ((0, 0), (1, 0)))
        found.misses[:, row] = padded[:, first] + cumulated[:, -1:] - cumulated[:, last]
        ends = binned.predicted[row] + binned.scale[row] * np.stack(
            [found.lower[row], found.upper[row]]
        )
        low, high = np.maximum(ends, 0.0)
        found.width[row] = pixels * (high - low)
    return found
