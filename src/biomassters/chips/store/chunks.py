"""A chip as the bytes that a store holds: integers, encoded chunks, one shard per array; no I/O.

Packing is a pure function of the chip and the codec: packed twice, or by two runs at once, a chip
gives the same bytes. A shard is that of Zarr's ``sharding_indexed`` codec with its index at the end
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): the chunks, then offset
and size of each as little-endian uint64, both 2⁶⁴ − 1 for one that was left out, then the index's
CRC-32C. zarr-python reads and writes the same files; doing it here saves copies and lets the writer
fsync. ``shards.py`` reads them.
"""

import struct
from collections.abc import Sequence

import numcodecs.blosc
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.bands import S1_LEAST_DB, S1_NODATA_DB, S1_STORE_FILL, S1_STORE_SCALE_DB
from biomassters.chips.chip import Chip
from biomassters.chips.store.layout import AGB_ARRAY, ARRAYS, BLOSC_LEVELS
from biomassters.chips.store.manifest import ChipRecord, Slot
from biomassters.chips.store.store_files import Parts

Chunk = tuple[bytes | memoryview, int]
"""Encoded values, and their CRC-32C, which follows them in the file."""

CRC_BYTES = 4
LEFT_OUT = 2**64 - 1
_STEPS_PER_DB = np.float32(round(1 / S1_STORE_SCALE_DB))
_INT16_MAX = 32767

# zarr-python sets the same switch: blosc's own pool of threads is global and holds the GIL,
# its contextual calls release it and may run side by side.
numcodecs.blosc.use_threads = False


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
    """Undo ``pack_backscatter``: float32 [...] in dB, −9999 where there is no data."""
    backscatter_db = steps.astype(np.float32) / _STEPS_PER_DB
    backscatter_db[steps == S1_STORE_FILL] = S1_NODATA_DB
    return backscatter_db


def packed_chip(chip: Chip, slot: Slot, codec: str) -> tuple[ChipRecord, dict[str, Parts]]:
    """A chip's record, and the content of its files by their names in the store.

    An array that the chip has nothing of has no file, as Zarr wants it.
    """
    s1 = [
        pack_backscatter(image) if exists else None
        for image, exists in zip(chip.s1_db, chip.present[:, 0], strict=True)
    ]
    s2 = [
        np.ascontiguousarray(image) if exists else None
        for image, exists in zip(chip.s2, chip.present[:, 1], strict=True)
    ]
    label = chip.agb_mg_per_ha
    # Test labels are for scoring alone: no store that is trained from may hold one.
    assert label is None or chip.split == "train", f"test chip {chip.chip_id} has a label"
    agb = None if label is None else np.ascontiguousarray(label, AGB_ARRAY.dtype)
    files: dict[str, Parts] = {}
    chunk_crcs = {}
    for array, images in zip(ARRAYS, (s1, s2, [agb]), strict=True):
        chunks = [None if image is None else encode(image, codec) for image in images]
        chunk_crcs[array.name] = [chunk[1] if chunk else 0 for chunk in chunks]
        if any(chunks):
            shard = shard_parts(chunks)  # a label is one chunk, without an index
            files[array.key(slot.split, slot.index)] = shard if array.bands else shard[:2]
    return ChipRecord.of(chip, slot, values_checksum([*s1, *s2], agb), chunk_crcs), files


def values_checksum(images: Sequence[NDArray | None], agb: NDArray[np.float32] | None) -> int:
    """CRC-32C of a chip's packed values and of which images exist, the same whatever the codec."""
    crc = crc32c(bytes(image is not None for image in images))
    for array in (*images, agb):
        if array is not None:
            crc = crc32c(array.data, crc)
    return crc


def encode(values: NDArray, codec: str) -> Chunk:
    """Encode a C-contiguous array of any shape with one of ``CODECS``."""
    if codec == "none":
        content = values.data.cast("B")
    else:
        shuffle = numcodecs.blosc.BITSHUFFLE
        content = numcodecs.blosc.compress(values, codec.encode(), BLOSC_LEVELS[codec], shuffle)
    return content, crc32c(content)


def shard_parts(chunks: Sequence[Chunk | None]) -> Parts:
    """Lay out a shard of chunks in order, None for one that is left out."""
    index = np.full((len(chunks), 2), LEFT_OUT, dtype="<u8")
    parts: list[bytes | memoryview] = []
    offset = 0
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            content, crc = chunk
            index[number] = offset, len(content) + CRC_BYTES
            offset += len(content) + CRC_BYTES
            parts += [content, struct.pack("<I", crc)]
    index_bytes = index.tobytes()
    return [*parts, index_bytes, struct.pack("<I", crc32c(index_bytes))]
