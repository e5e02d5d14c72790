"""A chip as the files of a store, one an array: packed as bytes, and read into the caller's memory.

Packing is a pure function of the chip and the codec: packed twice, or by two runs at once, a chip
gives the same bytes. A file is a shard of Zarr's codec ``sharding_indexed`` with its index at the
end (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): the chunks, then
offset and size of each as little-endian uint64, both 2⁶⁴ − 1 for one that was left out, then the
index's CRC-32C. zarr-python reads and writes the same files; doing it here saves copies, lets the
writer fsync, and lets threads read and decode side by side, without the GIL. ``writer.py`` writes
them, ``reader.py`` makes chips and months of them.
"""

import json
import math
import os
import struct
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.bands import SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.store.layout import AGB_ARRAY, ARRAYS, BLOSC_LEVELS, StoreArray
from biomassters.chips.store.manifest import ChipRecord, Slot
from biomassters.chips.store.store_files import Parts, files_at
from biomassters.errors import BadInputError
from biomassters.io.files import IrregularFileError, open_regular
from biomassters.io.storage import Place, place_of, read_range, state

Chunk = tuple[bytes | memoryview, int]
"""Encoded values, and their CRC-32C, which follows them in the file."""

_CRC_BYTES = 4
_LEFT_OUT = 2**64 - 1
_OPEN_SHARDS = 64
# github.com/Blosc/c-blosc, README_CHUNK_FORMAT: version, versionlz, flags, typesize, nbytes,
# blocksize, ctbytes.
_BLOSC_HEADER = struct.Struct("<4xI4xI")

# zarr-python sets the same switch: blosc's own pool of threads is global and holds the GIL,
# its contextual calls release it and may run side by side.
numcodecs.blosc.use_threads = False


# ---- Packing


def packed_chip(chip: Chip, slot: Slot, codec: str) -> tuple[ChipRecord, dict[str, Parts]]:
    """A chip's record, and the content of its files by their names in the store.

    An array that the chip has nothing of has no file, as Zarr wants it.
    """
    packed = [
        [
            sensor.pack(image) if exists else None
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
        chunks = [None if image is None else _encode(image, codec) for image in images]
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


def _encode(values: NDArray, codec: str) -> Chunk:
    """Encode a C-contiguous array of any shape with one of ``CODECS``."""
    if codec == "none":
        content = values.data.cast("B")
    else:
        shuffle = numcodecs.blosc.BITSHUFFLE
        content = numcodecs.blosc.compress(values, codec.encode(), BLOSC_LEVELS[codec], shuffle)
    return content, crc32c(content)


def shard_parts(chunks: Sequence[Chunk | None]) -> Parts:
    """Lay out a shard of chunks in order, None for one that is left out."""
    index = np.full((len(chunks), 2), _LEFT_OUT, dtype="<u8")
    parts: list[bytes | memoryview] = []
    offset = 0
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            content, crc = chunk
            index[number] = offset, len(content) + _CRC_BYTES
            offset += len(content) + _CRC_BYTES
            parts += [content, struct.pack("<I", crc)]
    index_bytes = index.tobytes()
    return [*parts, index_bytes, struct.pack("<I", crc32c(index_bytes))]


# ---- Reading


class PackedArray:
    """An array's chunks, read from shards of a split's chips and decoded; threads may share it.

    Every chunk must have the checksum that the manifest knows, so that neither a flipped bit nor
    the image of another chip is ever taken for this one's. A compressed chunk is compared
    whenever it is read. Uncompressed, where windows are read in pieces, it is compared whole the
    first time only: the checksum would cost a fifth of the speed.

    Raises:
        BadInputError: The array's metadata are missing, damaged or changed. Values read by
            another layout (transposed, big-endian) would look like an image, too.
    """

    def __init__(
        self, store: Place, split: str, array: StoreArray, records: list[ChipRecord], codec: str
    ) -> None:
        self._folder: int | None = None
        place = f"{store}/{split}/{array.name}"
        size = records[0].height, records[0].width
        if read_metadata(place) != array.metadata(len(records), *size, codec):
            raise BadInputError(
                f"{place}/zarr.json is not what was written with this store: run the "
                "pipeline data_engineering again, which writes it anew."
            )
        self._crcs = [record.chunk_crcs.get(array.name, ()) for record in records]
        if any(len(found) != array.chunk_count for found in self._crcs):
            raise BadInputError(
                f"The manifest of {store} lacks checksums of {array.name}: run the pipeline "
                "data_engineering, which packs it again."
            )
        if isinstance(store, Path):
            # Through this descriptor an old store stays readable while a new one takes its name.
            self._folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        self._dtype = array.dtype
        self._compressed = codec != "none"
        self._chunk_shape = array.chunk_shape(*size)
        self._chunk_bytes = math.prod(self._chunk_shape) * array.dtype.itemsize
        self._compared: set[tuple[int, int]] = set()
        # The last ones stay open. No method of this object: it would keep itself alive.
        self._shard = lru_cache(_OPEN_SHARDS)(partial(_open, array, place, self._folder))

    def __del__(self) -> None:
        if self._folder is not None:
            os.close(self._folder)

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        """Fill a window [bands, h, w] of a chip's month, or [h, w] of its label (month 0).

        Raises:
            BadInputError: The chunk is missing or damaged, or is another one's.
        """
        shard = self._shard(chip)
        whole = out.shape == self._chunk_shape and out.flags.c_contiguous
        if self._compressed:
            encoded = self._checked(shard, chip, month)
            chunk = out if whole else np.empty(self._chunk_shape, self._dtype)
            _decompress(shard, encoded, chunk)
            if not whole:
                height, width = out.shape[-2:]
                out[...] = chunk[..., top : top + height, left : left + width]
            return
        if (chip, month) not in self._compared:
            self._checked(shard, chip, month)
            self._compared.add((chip, month))
        if whole:
            shard.read_into(month, out.data.cast("B"))
        else:
            self._read_rows(shard, month, out, top, left)

    def _checked(self, shard: "Shard", chip: int, month: int) -> memoryview:
        """A chunk's encoded bytes, as they should be."""
        size = shard.chunk_size(month)
        if size is None:
            raise shard.damage("a chunk was left out")
        content_size = size - _CRC_BYTES
        if content_size < 0 or not (self._compressed or content_size == self._chunk_bytes):
            raise shard.damage("a chunk has a wrong size")
        stored = np.empty(size, np.uint8).data
        shard.read_into(month, stored)
        encoded = stored[:content_size]
        crc = crc32c(encoded)
        if crc != int.from_bytes(stored[content_size:], "little"):
            raise shard.damage("a chunk has a wrong checksum")
        if crc != self._crcs[chip][month]:
            raise shard.damage("it is another chip's file")
        return encoded

    def _read_rows(self, shard: "Shard", month: int, out: NDArray, top: int, left: int) -> None:
        """Read only the rows of the window, band by band."""
        height, width = out.shape[-2:]
        full_height, full_width = self._chunk_shape[-2:]
        rows = np.empty((height, full_width), self._dtype)
        for band, target in enumerate(out if out.ndim == 3 else out[None]):
            first = (band * full_height + top) * full_width * rows.itemsize
            shard.read_into(month, rows.data.cast("B"), first)
            target[...] = rows[:, left : left + width]


class Shard:
    """A chip's file, and where its chunks lie.

    Args:
        name: Its path or URL.
        descriptor: Of the open file, which is closed with this object; None at a URL.
        chunk_count: Chunks that its index lists; None: the file is one chunk without an index.

    Raises:
        FileNotFoundError: There is none.
        BadInputError: Its index is damaged.
    """

    def __init__(self, name: str, descriptor: int | None, chunk_count: int | None) -> None:
        self.name, self._descriptor = name, descriptor
        if descriptor is not None:
            size = os.fstat(descriptor).st_size
        elif found := state(name):
            size = found[0]
        else:
            raise FileNotFoundError(name)
        self._index = ((0, size),) if chunk_count is None else self._read_index(size, chunk_count)

    def __del__(self) -> None:
        # Threads share shards: only the last reference may close the file.
        if self._descriptor is not None:
            os.close(self._descriptor)

    def chunk_size(self, number: int) -> int | None:
        """Bytes of an encoded chunk; None when it was left out."""
        offset, size = self._index[number]
        return None if offset == _LEFT_OUT else size

    def read_into(self, number: int, out: memoryview, skip: int = 0) -> None:
        """Fill ``out`` from an encoded chunk, leaving its first ``skip`` bytes out."""
        self._fill(out, self._index[number][0] + skip)

    def damage(self, reason: str) -> BadInputError:
        """The exception that says what is wrong with this file."""
        return BadInputError(
            f"{self.name} is damaged ({reason}): delete this file and run the pipeline "
            "data_engineering again, which packs its chip anew."
        )

    def _fill(self, out: memoryview, position: int) -> None:
        if self._descriptor is None:
            data = read_range(self.name, position, position + len(out))
            if len(data) != len(out):
                raise self.damage("it ends too early")
            out[:] = data
            return
        while len(out):
            count = os.preadv(self._descriptor, [out], position)
            if count == 0:
                raise self.damage("it ends too early")
            out = out[count:]
            position += count

    def _read_index(self, size: int, chunk_count: int) -> tuple[tuple[int, int], ...]:
        length = chunk_count * 16
        start = size - length - _CRC_BYTES
        if start < 0:
            raise self.damage("it has no index")
        stored = bytearray(length + _CRC_BYTES)
        self._fill(memoryview(stored), start)
        if struct.pack("<I", crc32c(stored[:length])) != stored[length:]:
            raise self.damage("its index has a wrong checksum")
        index = tuple(struct.iter_unpack("<QQ", stored[:length]))
        if any(offset != _LEFT_OUT and offset + count > start for offset, count in index):
            raise self.damage("its index points past the data")
        return index


def _open(array: StoreArray, place: str, folder: int | None, chip: int) -> Shard:
    file_name = array.file_name(chip)
    name = f"{place}/{file_name}"
    try:
        descriptor = None if folder is None else open_regular(file_name, folder)
        return Shard(name, descriptor, array.chunk_count if array.bands else None)
    except IrregularFileError as error:
        raise IrregularFileError(name, error.kind) from None
    except FileNotFoundError:
        raise BadInputError(
            f"{name} is missing, or the store was replaced: start again; if it is still missing, "
            "run the pipeline data_engineering, which packs its chip anew."
        ) from None


def _decompress(shard: Shard, encoded: memoryview, chunk: NDArray) -> None:
    size = len(encoded)
    # blosc believes its header (sizes decoded and encoded), even past the end of a buffer.
    if size < _BLOSC_HEADER.size or _BLOSC_HEADER.unpack_from(encoded) != (chunk.nbytes, size):
        raise shard.damage("a chunk has a wrong size")
    try:
        numcodecs.blosc.decompress(encoded, chunk)
    except (RuntimeError, ValueError) as error:
        raise shard.damage("a chunk can't be decoded") from error


def read_metadata(place: str) -> dict[str, Any]:
    """An array's ``zarr.json``; BadInputError where it is missing or no JSON."""
    try:
        return dict(json.loads(files_at(place_of(place)).read("zarr.json")))
    except BadInputError:
        raise
    except (FileNotFoundError, RecursionError, TypeError, ValueError):
        raise BadInputError(
            f"{place}/zarr.json is missing or damaged: run the pipeline data_engineering again, "
            "which writes it anew."
        ) from None
