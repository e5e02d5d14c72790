"""An array of a store read straight from its shards into the caller's memory.

The reads and the decoding leave Python's lock alone, so that threads work side by side.
"""

import math
import struct
import threading
from collections import OrderedDict
from typing import Any

import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from biomassters.chips.shard import Shard, Shards
from biomassters.chips.store_layout import StoreArray

_OPEN_SHARDS = 64
# github.com/Blosc/c-blosc, README_CHUNK_FORMAT: version, versionlz, flags, typesize, nbytes,
# blocksize, ctbytes.
_BLOSC_HEADER = struct.Struct("<4xI4xI")

_scratch = threading.local()


class PackedArray:
    """Chunks read from shards and decoded by blosc; threads may share it.

    Args:
        shards: The array's shards.
        array: Which array it is.
        metadata: Its ``zarr.json``, of a layout that ``is_direct`` accepts.
    """

    def __init__(self, shards: Shards, array: StoreArray, metadata: dict[str, Any]) -> None:
        self._source = shards
        self._array = array
        codecs = metadata["codecs"]
        self._sharded = codecs[0]["name"] == "sharding_indexed"
        inner = codecs[0]["configuration"]["codecs"] if self._sharded else codecs
        self._compressed = len(inner) > 1
        height, width = metadata["shape"][-2:]
        shape = array.chunk_shape(height, width)
        self._chunk_shape = shape[2:] if array.bands else shape[1:]
        self._chunk_bytes = math.prod(shape) * array.dtype.itemsize
        self._months = array.shard_shape(height, width)[1] if self._sharded else None
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._lock = threading.Lock()

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        """Fill ``out`` with a window of a chunk; see ``ChunkReader``."""
        shard = self._shard(chip)
        size = shard.chunk_size(month)
        whole = out.shape == self._chunk_shape and out.flags.c_contiguous
        if size is None:
            out[...] = self._array.fill
        elif self._compressed and whole:
            self._decode(shard, month, size, out)
        elif self._compressed:
            chunk = _scratch_array("decoded", self._chunk_shape, self._array.dtype)
            self._decode(shard, month, size, chunk)
            height, width = out.shape[-2:]
            out[...] = chunk[..., top : top + height, left : left + width]
        elif size != self._chunk_bytes:
            raise shard.damage("a chunk has a wrong size")
        elif whole:
            shard.read_into(month, _bytes_of(out))
        else:
            self._read_rows(shard, month, out, top, left)

    def _decode(self, shard: Shard, month: int, size: int, chunk: NDArray) -> None:
        encoded = _scratch_bytes("encoded", size)
        shard.read_into(month, encoded)
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
