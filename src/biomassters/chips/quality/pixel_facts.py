"""What an image's values say about its state, in few passes over them; no I/O."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import S1_LEAST_DB, S2
from biomassters.io.raster_spec import image_fault, label_fault

BLOCK = 16  # pixels a side of a block that is looked at for a single value


@dataclass(frozen=True)
class PixelFacts:
    """Shares of an image's values, and its fault.

    Attributes:
        nan_fraction: NaN or infinite.
        nodata_fraction: −9999, or anything below −100 dB.
        zero_fraction: 0.
        constant_block_fraction: Of all 16 × 16 blocks of a band, those with one single value that
            is neither 0 nor no data; cloud probability, which is so by nature, is left out.
        fault: What is wrong, as the end of a sentence, or None.
    """

    nan_fraction: float
    nodata_fraction: float
    zero_fraction: float
    constant_block_fraction: float
    fault: str | None


def pixel_facts(values: NDArray, is_label: bool = False) -> PixelFacts:
    """Looks at an image or a label.

    Args:
        values: float32 [bands, H, W] in dB or Mg/ha, or uint16 [11, H, W].
        is_label: Whether it is a label [1, H, W].
    """
    # Pixels as they lie in the file, so that every pass runs straight through memory.
    pixels = values.transpose(1, 2, 0)
    is_float = values.dtype.kind == "f"
    zeros = values.size - np.count_nonzero(pixels)
    nodata = np.count_nonzero(pixels < S1_LEAST_DB) if is_float and not is_label else 0
    nans = _not_finite(pixels) if is_float else 0
    if is_label:
        fault = label_fault(values[0])
    else:
        fault = image_fault(values) if nans or zeros == values.size else None
    nan, none, zero = (float(count / values.size) for count in (nans, nodata, zeros))
    return PixelFacts(nan, none, zero, _constant_blocks(pixels), fault)


def _not_finite(values: NDArray[np.floating]) -> int:
    # A sum keeps NaN and infinity; only then are they worth a mask.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(values.sum()):
            return 0
    return values.size - int(np.isfinite(values).sum())


def _constant_blocks(pixels: NDArray) -> float:
    """Share of blocks with one value, of [H, W, bands]."""
    bands = len(S2.bands) - 1 if pixels.shape[2] == len(S2.bands) else pixels.shape[2]
    rows, columns = (size // BLOCK for size in pixels.shape[:2])
    if rows == 0 or columns == 0:
        return 0.0
    blocks = pixels[: rows * BLOCK, : columns * BLOCK, :bands]
    # Corners first: where they differ, which is nearly everywhere, the rest needn't be read.
    first = blocks[::BLOCK, ::BLOCK]
    same = (first != 0) & (first >= S1_LEAST_DB)
    for top, left in ((0, BLOCK - 1), (BLOCK - 1, 0), (BLOCK - 1, BLOCK - 1)):
        same &= blocks[top::BLOCK, left::BLOCK] == first
    constant = 0
    for row, column, band in np.argwhere(same):
        top, left = row * BLOCK, column * BLOCK
        block = blocks[top : top + BLOCK, left : left + BLOCK, band]
        constant += bool((block == block[0, 0]).all())
    return constant / same.size
