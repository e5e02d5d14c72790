"""A chip's values as the integers that a store holds, and back; no I/O."""

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.bands import S1_LEAST_DB, S1_NODATA_DB, S1_STORE_FILL, S1_STORE_SCALE_DB
from biomassters.chips.chip import Chip

S2_STORE_FILL = 0
_STEPS_PER_DB = np.float32(round(1 / S1_STORE_SCALE_DB))
_INT16_MAX = 32767


def pack_backscatter(backscatter_db: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round backscatter to steps of 0.01 dB.

    Args:
        backscatter_db: float32 [...], dB; −9999 (anything below −100) where there is no data.

    Returns:
        int16 [...], C-contiguous, 0.01 dB, at most 0.005 dB off; −32768 where there is no
        data (a value that is not finite has none either). Values above 327.67 dB are clipped.
    """
    with np.errstate(over="ignore"):
        steps = np.rint(backscatter_db * _STEPS_PER_DB)
    nodata = (backscatter_db < np.float32(S1_LEAST_DB)) | ~np.isfinite(steps)
    np.clip(steps, -_INT16_MAX, _INT16_MAX, out=steps)
    steps[nodata] = S1_STORE_FILL
    return steps.astype(np.int16, order="C")


def unpack_backscatter(steps: NDArray[np.int16]) -> NDArray[np.float32]:
    """Undo ``pack_backscatter``.

    Args:
        steps: int16 [...], 0.01 dB; −32768 where there is no data.

    Returns:
        float32 [...], dB; −9999 where there is no data.
    """
    backscatter_db = steps.astype(np.float32) / _STEPS_PER_DB
    backscatter_db[steps == S1_STORE_FILL] = S1_NODATA_DB
    return backscatter_db


def pack_months(
    chip: Chip,
) -> tuple[list[NDArray[np.int16] | None], list[NDArray[np.uint16] | None]]:
    """Pack the images that exist.

    Args:
        chip: A chip.

    Returns:
        Per month the Sentinel-1 image, int16 [4, H, W], and the Sentinel-2 image,
        uint16 [11, H, W]; None where the month has none.
    """
    s1 = [
        pack_backscatter(image) if exists else None
        for image, exists in zip(chip.s1_db, chip.present[:, 0], strict=True)
    ]
    s2 = [
        np.ascontiguousarray(image) if exists else None
        for image, exists in zip(chip.s2, chip.present[:, 1], strict=True)
    ]
    return s1, s2


def checksum(images: list[NDArray | None], agb_mg_per_ha: NDArray[np.float32] | None) -> int:
    """CRC-32C of a packed chip, the same whatever the store's codec.

    Args:
        images: Packed images, C-contiguous, None where there is none.
        agb_mg_per_ha: float32 [H, W], or None without a label.

    Returns:
        The checksum, from 0 to 2³² − 1; it also covers which images exist.
    """
    crc = crc32c(bytes(image is not None for image in images))
    for array in (*images, agb_mg_per_ha):
        if array is not None:
            crc = crc32c(np.ascontiguousarray(array).data, crc)
    return crc
