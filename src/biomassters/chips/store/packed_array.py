"""An array of a store read straight from its shards into the caller's memory.

The reads and the decoding leave Python's lock alone, so that threads work side by side.
"""

import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numcodecs.blosc
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.store.layout import CRC_BYTES, StoreArray
from biomassters.chips.store.shard import Shard, Shards

_OPEN_SHARDS = 64
# github.com/Blosc/c-blosc, README_CHUNK_FORMAT: version, versionlz, flags, typesize, nbytes,
# blocksize, ctbytes.
_BLOSC_HEADER = struct.Struct("<4xI4xI")

_scratch = threading.local()


class PackedArray:
    """Chunks read from shards and decoded by blosc; threads may share it.

    Every chunk must have the checksum that the manifest knows, so that neither a flipped bit nor
    the image of another chip is ever taken for this one's. A compressed chunk is compared
    whenever it is read. Uncompressed, where windows are read in pieces, it is compared whole the
    first time only: the checksum would cost a fifth of the speed.

    Args:
        shards: The array's shards.
        array: Which array it is.
        size: Height and width of a chip, pixels.
        codec: The store's codec.
        crcs: Per chip the CRC-32C of its chunks.
    """

    def __init__(
        self,
        shards: Shards,
        array: StoreArray,
        size: tuple[int, int],
        codec: str,
        crcs: Sequence[Sequence[int]],
    ) -> None:
        self._source = shards
        self._array = array
        self._compressed = codec != "none"
        shape = array.chunk_shape(*size)
        self._chunk_shape = shape[2:] if array.bands else shape[1:]
        self._chunk_bytes = math.prod(shape) * array.dtype.itemsize
        self._months = array.shard_shape(*size)[1] if array.bands else None
        self._crcs = crcs
        self._compared: set[tuple[int, int]] = set()
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._lock = threading.Lock()

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        """Fill a window of a chunk.

        Args:
            chip: Index of the chip.
            month: 0 to 11; 0 for a label.
            out: [bands, h, w], or [h, w] for a label.
            top: First row of the window.
            left: First column of the window.

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

    def _checked(self, shard: Shard, chip: int, month: int) -> memoryview:
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

    def _decode(self, shard: Shard, encoded: memoryview, out: NDArray, top: int, left: int) -> None:
        if out.shape == self._chunk_shape and out.flags.c_contiguous:
            self._decompress(shard, encoded, out)
            return
        chunk = _scratch_array("decoded", self._chunk_shape, self._array.dtype)
        self._decompress(shard, encoded, chunk)
        height, width = out.shape[-2:]
        out[...] = chunk[..., top : top + height, left : left + width]

    def _decompress(self, shard: Shard, encoded: memoryview, chunk: NDArray) -> None:
        size = len(encoded)
        # blosc believes its header (sizes decoded and encoded), even past the end of a buffer.
        if size < _BLOSC_HEADER.size or _BLOSC_HEADER.unpack_from(encoded) != (chunk.nbytes, size):
            raise shard.damage("a chunk has a wrong size")
        try:
            numcodecs.blosc.decompress(encoded, chunk)
        except (RuntimeError, ValueError) as error:
            raise shard.damage("a chunk can't be decoded") from error

    def _read_rows(self, shard: Shard, month: int, out: NDArray, top: int, left: int) -> None:
        """Read only the rows of the window, band by band."""
        height, width = out.shape[-2:]
        full_height, full_width = self._chunk_shape[-2:]
        item = self._array.dtype.itemsize
        rows = _scratch_array("rows", (height, full_width), self._array.dtype)
        for band, target in enumerate(out if out.ndim == 3 else out[None]):
            first = (band * full_height + top) * full_width * item
            shard.read_into(month, _bytes_of(rows), first)
            target[...] = rows[:, left : left + width]

    def _shard(self, chip: int) -> Shard:
        with self._lock:
            shard = self._shards.get(chip)
            if shard is not None:
                self._shards.move_to_end(chip)
                return shard
        shard = self._source.open(chip, self._months)
        with self._lock:
            self._shards[chip] = shard
            if len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
        return shard


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
