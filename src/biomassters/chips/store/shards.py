"""An array of a store read straight from its shards into the caller's memory.

Reading and decoding release the GIL, so that threads work side by side. The format of a shard
stands in ``chunks.py``; ``reader.py`` makes chips and months of it.
"""

import json
import math
import os
import struct
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.store.chunks import CRC_BYTES, LEFT_OUT
from biomassters.chips.store.layout import StoreArray
from biomassters.chips.store.manifest import ChipRecord
from biomassters.errors import BadInputError
from biomassters.io.files import IrregularFileError, open_regular, read_regular
from biomassters.io.storage import Place, is_url, read, read_range, state

_OPEN_SHARDS = 64
# github.com/Blosc/c-blosc, README_CHUNK_FORMAT: version, versionlz, flags, typesize, nbytes,
# blocksize, ctbytes.
_BLOSC_HEADER = struct.Struct("<4xI4xI")

_scratch = threading.local()


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
        self._place = f"{store}/{split}/{array.name}"
        size = records[0].height, records[0].width
        if read_metadata(self._place) != array.metadata(len(records), *size, codec):
            raise BadInputError(
                f"{self._place}/zarr.json is not what was written with this store: run the "
                "pipeline data_engineering again, which writes it anew."
            )
        self._crcs = [record.chunk_crcs.get(array.name, ()) for record in records]
        if any(len(found) != (MONTH_COUNT if array.bands else 1) for found in self._crcs):
            raise BadInputError(
                f"The manifest of {store} lacks checksums of {array.name}: run the pipeline "
                "data_engineering, which packs it again."
            )
        if isinstance(store, Path):
            # Through this descriptor an old store stays readable while a new one takes its name.
            self._folder = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)
        self._array = array
        self._compressed = codec != "none"
        self._chunk_shape = (*((len(array.bands),) if array.bands else ()), *size)
        self._chunk_bytes = math.prod(self._chunk_shape) * array.dtype.itemsize
        self._compared: set[tuple[int, int]] = set()
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if self._folder is not None:
            os.close(self._folder)

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        """Fill a window [bands, h, w] of a chip's month, or [h, w] of its label (month 0).

        Raises:
            BadInputError: The chunk is missing or damaged, or is another one's.
        """
        shard = self._shard(chip)
        if self._compressed or (chip, month) not in self._compared:
            encoded = self._checked(shard, chip, month)
            if self._compressed:
                self._decode(shard, encoded, out, top, left)
                return
            self._compared.add((chip, month))
        if out.shape == self._chunk_shape and out.flags.c_contiguous:
            shard.read_into(month, _bytes_of(out))
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
        stored = _scratch_bytes("encoded", size)
        shard.read_into(month, stored)
        encoded = stored[:content_size]
        crc = crc32c(encoded)
        if crc != int.from_bytes(stored[content_size:], "little"):
            raise shard.damage("a chunk has a wrong checksum")
        if crc != self._crcs[chip][month]:
            raise shard.damage("it is another chip's file")
        return encoded

    def _decode(
        self, shard: "Shard", encoded: memoryview, out: NDArray, top: int, left: int
    ) -> None:
        if out.shape == self._chunk_shape and out.flags.c_contiguous:
            self._decompress(shard, encoded, out)
            return
        chunk = _scratch_array("decoded", self._chunk_shape, self._array.dtype)
        self._decompress(shard, encoded, chunk)
        height, width = out.shape[-2:]
        out[...] = chunk[..., top : top + height, left : left + width]

    def _decompress(self, shard: "Shard", encoded: memoryview, chunk: NDArray) -> None:
        size = len(encoded)
        # blosc believes its header (sizes decoded and encoded), even past the end of a buffer.
        if size < _BLOSC_HEADER.size or _BLOSC_HEADER.unpack_from(encoded) != (chunk.nbytes, size):
            raise shard.damage("a chunk has a wrong size")
        try:
            numcodecs.blosc.decompress(encoded, chunk)
        except (RuntimeError, ValueError) as error:
            raise shard.damage("a chunk can't be decoded") from error

    def _read_rows(self, shard: "Shard", month: int, out: NDArray, top: int, left: int) -> None:
        """Read only the rows of the window, band by band."""
        height, width = out.shape[-2:]
        full_height, full_width = self._chunk_shape[-2:]
        item = self._array.dtype.itemsize
        rows = _scratch_array("rows", (height, full_width), self._array.dtype)
        for band, target in enumerate(out if out.ndim == 3 else out[None]):
            first = (band * full_height + top) * full_width * item
            shard.read_into(month, _bytes_of(rows), first)
            target[...] = rows[:, left : left + width]

    def _shard(self, chip: int) -> "Shard":
        with self._lock:
            shard = self._shards.get(chip)
            if shard is not None:
                self._shards.move_to_end(chip)
                return shard
        shard = self._open(chip)
        with self._lock:
            self._shards[chip] = shard
            if len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
        return shard

    def _open(self, chip: int) -> "Shard":
        place, file_name = self._place, self._array.file_name(chip)
        months = MONTH_COUNT if self._array.bands else None
        if self._folder is None:
            return UrlShard(f"{place}/{file_name}", months)
        try:
            descriptor = open_regular(file_name, self._folder)
        except IrregularFileError as error:
            raise IrregularFileError(f"{place}/{file_name}", error.kind) from None
        except FileNotFoundError:
            raise BadInputError(
                f"{place}/{file_name} is missing, or the store was replaced: start again; "
                "if it is still missing, delete the chip store and pack it again."
            ) from None
        return FileShard(f"{place}/{file_name}", descriptor, months)


class Shard(ABC):
    """A shard and where its chunks lie; without a count the file is one chunk without an index."""

    def __init__(self, name: str, size: int, chunk_count: int | None) -> None:
        self.name = name
        self._index = ((0, size),) if chunk_count is None else self._read_index(size, chunk_count)

    @abstractmethod
    def fill(self, out: memoryview, position: int) -> None:
        """Read bytes from a position on until ``out`` is full, or raise ``damage``."""

    def chunk_size(self, number: int) -> int | None:
        """Bytes of an encoded chunk; None when it was left out."""
        offset, size = self._index[number]
        return None if offset == LEFT_OUT else size

    def read_into(self, number: int, out: memoryview, skip: int = 0) -> None:
        """Fill ``out`` from an encoded chunk, leaving its first ``skip`` bytes out."""
        self.fill(out, self._index[number][0] + skip)

    def damage(self, reason: str) -> BadInputError:
        """The exception that says what is wrong with this file."""
        return BadInputError(
            f"{self.name} is damaged ({reason}): delete this file and run the pipeline "
            "data_engineering again, which packs its chip anew."
        )

    def _read_index(self, size: int, chunk_count: int) -> tuple[tuple[int, int], ...]:
        length = chunk_count * 16
        start = size - length - CRC_BYTES
        if start < 0:
            raise self.damage("it has no index")
        buffer = bytearray(length + CRC_BYTES)
        self.fill(memoryview(buffer), start)
        stored = bytes(buffer)
        if struct.pack("<I", crc32c(stored[:length])) != stored[length:]:
            raise self.damage("its index has a wrong checksum")
        index = np.frombuffer(stored, "<u8", chunk_count * 2).reshape(chunk_count, 2).tolist()
        if any(offset != LEFT_OUT and offset + count > start for offset, count in index):
            raise self.damage("its index points past the data")
        return tuple((offset, count) for offset, count in index)


class FileShard(Shard):
    """A shard in an open file, whose descriptor it owns; read by preadv(2)."""

    def __init__(self, name: str, descriptor: int, chunk_count: int | None) -> None:
        self._descriptor = descriptor
        super().__init__(name, os.fstat(descriptor).st_size, chunk_count)

    def __del__(self) -> None:
        # Threads share shards: only the last reference may close the file.
        os.close(self._descriptor)

    def fill(self, out: memoryview, position: int) -> None:
        """See ``Shard.fill``."""
        while len(out):
            count = os.preadv(self._descriptor, [out], position)
            if count == 0:
                raise self.damage("it ends too early")
            out = out[count:]
            position += count


class UrlShard(Shard):
    """A shard at a URL: its index once, then the bytes of single chunks."""

    def __init__(self, url: str, chunk_count: int | None) -> None:
        found = state(url)
        if found is None:
            raise BadInputError(
                f"{url} is missing, or the store was replaced: start again; if it is still "
                "missing, pack the store again at another URL."
            )
        super().__init__(url, found[0], chunk_count)

    def fill(self, out: memoryview, position: int) -> None:
        """See ``Shard.fill``."""
        data = read_range(self.name, position, position + len(out))
        if len(data) != len(out):
            raise self.damage("it ends too early")
        out[:] = data


def read_metadata(place: str) -> dict[str, Any]:
    """An array's ``zarr.json``; BadInputError where it is missing or no JSON."""
    name = f"{place}/zarr.json"
    try:
        return dict(json.loads(read(name) if is_url(name) else read_regular(name)))
    except BadInputError:
        raise
    except (FileNotFoundError, RecursionError, TypeError, ValueError):
        raise BadInputError(
            f"{name} is missing or damaged: run the pipeline data_engineering again, which writes "
            "it anew."
        ) from None


def _bytes_of(array: NDArray) -> memoryview:
    return array.data.cast("B")


def _scratch_bytes(name: str, size: int) -> memoryview:
    """This thread's buffer of a name, grown when too small."""
    buffer = getattr(_scratch, name, None)
    if buffer is None or len(buffer) < size:
        buffer = np.empty(size, np.uint8)
        setattr(_scratch, name, buffer)
    return buffer.data[:size]


def _scratch_array(name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(_scratch_bytes(name, size), dtype).reshape(shape)
