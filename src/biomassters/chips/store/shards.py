"""An array of a store read straight from its shards into the caller's memory.

Reading and decoding release the GIL, so that threads work side by side. The format of a shard
stands in ``chunks.py``; ``reader.py`` makes chips and months of it.
"""

import json
import math
import os
import struct
import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.store.chunks import CRC_BYTES, LEFT_OUT
from biomassters.chips.store.layout import StoreArray
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.store_files import files_at
from biomassters.errors import BadInputError
from biomassters.io.files import IrregularFileError, open_regular
from biomassters.io.storage import Place, place_of, read_range, state

_OPEN_SHARDS = 64
# github.com/Blosc/c-blosc, README_CHUNK_FORMAT: version, versionlz, flags, typesize, nbytes,
# blocksize, ctbytes.
_BLOSC_HEADER = struct.Struct("<4xI4xI")

_buffers = threading.local()


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
            chunk = out if whole else _scratch("decoded", self._chunk_shape, self._dtype)
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
        """A chunk's encoded bytes, in this thread's buffer."""
        size = shard.chunk_size(month)
        if size is None:
            raise shard.damage("a chunk was left out")
        content_size = size - CRC_BYTES
        if content_size < 0 or not (self._compressed or content_size == self._chunk_bytes):
            raise shard.damage("a chunk has a wrong size")
        stored = _scratch("encoded", (size,), np.dtype("u1")).data
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
        rows = _scratch("rows", (height, full_width), self._dtype)
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
        return None if offset == LEFT_OUT else size

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
        start = size - length - CRC_BYTES
        if start < 0:
            raise self.damage("it has no index")
        stored = bytearray(length + CRC_BYTES)
        self._fill(memoryview(stored), start)
        if struct.pack("<I", crc32c(stored[:length])) != stored[length:]:
            raise self.damage("its index has a wrong checksum")
        index = tuple(struct.iter_unpack("<QQ", stored[:length]))
        if any(offset != LEFT_OUT and offset + count > start for offset, count in index):
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


def _scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """This thread's buffer of a name, grown when too small."""
    size = math.prod(shape) * dtype.itemsize
    buffer = getattr(_buffers, name, None)
    if buffer is None or len(buffer) < size:
        buffer = np.empty(size, np.uint8)
        setattr(_buffers, name, buffer)
    return buffer[:size].view(dtype).reshape(shape)
