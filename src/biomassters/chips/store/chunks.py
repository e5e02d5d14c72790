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
from typing import Any

import numcodecs.blosc
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.bands import SENSORS, Sensor
from biomassters.chips.chip import Chip
from biomassters.chips.store.layout import AGB_ARRAY, ARRAYS, BLOSC_LEVELS
from biomassters.chips.store.manifest import ChipRecord, Slot
from biomassters.chips.store.store_files import Parts

Chunk = tuple[bytes | memoryview, int]
"""Encoded values, and their CRC-32C, which follows them in the file."""

CRC_BYTES = 4
LEFT_OUT = 2**64 - 1

# zarr-python sets the same switch: blosc's own pool of threads is global and holds the GIL,
# its contextual calls release it and may run side by side.
numcodecs.blosc.use_threads = False


def pack(sensor: Sensor, images: NDArray[Any]) -> NDArray[Any]:
    """Images in the archive's type and unit → the integers of stores and batches.

    Floats below the sensor's floor, or not finite, are no data.

    Returns:
        The sensor's packed type, of the same shape, C-contiguous, at most half a step off
        (0.005 dB); its ``fill`` where there is no data. Values beyond the type's range (above
        327.67 dB) are clipped.
    """
    if sensor.floor is None:
        return np.ascontiguousarray(images, sensor.packed_dtype)
    with np.errstate(over="ignore"):
        steps = np.rint(images * np.float32(sensor.steps_per_unit))
    nodata = (images < np.float32(sensor.floor)) | ~np.isfinite(steps)
    most = np.iinfo(sensor.packed_dtype).max
    np.clip(steps, -most, most, out=steps)
    steps[nodata] = sensor.fill
    return steps.astype(sensor.packed_dtype, order="C")


def unpack(sensor: Sensor, steps: NDArray[Any]) -> NDArray[Any]:
    """Undo ``pack``: the archive's type and unit, ``nodata`` where there is no data."""
    if sensor.floor is None:
        return steps
    images = steps.astype(sensor.archive_dtype) / np.float32(sensor.steps_per_unit)
    images[steps == sensor.fill] = sensor.nodata
    return images


def packed_chip(chip: Chip, slot: Slot, codec: str) -> tuple[ChipRecord, dict[str, Parts]]:
    """A chip's record, and the content of its files by their names in the store.

    An array that the chip has nothing of has no file, as Zarr wants it.
    """
    packed = [
        [
            pack(sensor, image) if exists else None
            for image, exists in zip(chip.images[sensor.name], present, strict=True)
        ]
        for sensor, present in zip(SENSORS, chip.present.T, strict=True)
    ]
    label = chip.agb_mg_per_ha
    # Test labels are for scoring alone: no store that is trained from may hold one.
    assert label is None or chip.split == "train", f"test chip {chip.chip_id} has a label"
    agb = None if label is None else np.ascontiguousarray(label, AGB_ARRAY.dtype)
    files: dict[str, Parts] = {}
    chunk_crcs = {}
    for array, images in zip(ARRAYS, (*packed, [agb]), strict=True):
        chunks = [None if image is None else encode(image, codec) for image in images]
        chunk_crcs[array.name] = [chunk[1] if chunk else 0 for chunk in chunks]
        if any(chunks):
            shard = shard_parts(chunks)  # a label is one chunk, without an index
            files[array.key(slot.split, slot.index)] = shard if array.bands else shard[:2]
    crc = values_checksum([image for images in packed for image in images], agb)
    return ChipRecord.of(chip, slot, crc, chunk_crcs), files


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
