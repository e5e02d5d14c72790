"""Two ways to read one chunk of a store's array: straight from a local file, or by Zarr.

The direct way knows just the layout that ``store_writer`` produces. It reads or decodes
straight into the caller's array and leaves Python's lock alone meanwhile, so that threads
read side by side. Whatever else lies there is left to zarr-python.
"""

import json
import os
import struct
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from biomassters.chips.shard import OpenShard
from biomassters.chips.store_layout import StoreArray
from biomassters.errors import BadInputError

_OPEN_SHARDS = 64
_scratch = threading.local()


class ChunkReader(Protocol):
    """Reads windows of chunks."""

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        """Fill ``out`` [bands, h, w] (or [h, w]) with the window at (top, left) of a chunk."""
        ...


def open_array(store: Path | str, split: str, array: StoreArray) -> ChunkReader:
    """Choose how to read an array.

    Args:
        store: The store's folder or URL.
        split: The split's group.
        array: Which array.

    Returns:
        A reader that threads may share.
    """
    if isinstance(store, Path) and hasattr(os, "preadv"):
        metadata = json.loads((store / split / array.name / "zarr.json").read_text())
        if _is_direct(metadata, array):
            return _LocalArray(store / split / array.name, array, metadata)
    return _ZarrArray(f"{store}/{split}", array)


def _is_direct(metadata: dict[str, Any], array: StoreArray) -> bool:
    """Whether the files of an array are laid out as the writer lays them out."""
    size = metadata["shape"][-2:]
    expected = {
        "data_type": array.dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(array.shard_shape(*size))},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
    }
    if any(metadata.get(key) != value for key, value in expected.items()):
        return False
    codecs = metadata["codecs"]
    if codecs[0]["name"] != "sharding_indexed":
        return not array.bands and _is_plain(codecs)
    sharding = codecs[0]["configuration"]
    return (
        len(codecs) == 1
        and sharding["chunk_shape"] == list(array.chunk_shape(*size))
        and sharding.get("index_location", "end") == "end"
        and [codec["name"] for codec in sharding["index_codecs"]] == ["bytes", "crc32c"]
        and _is_plain(sharding["index_codecs"][:1])
        and _is_plain(sharding["codecs"])
    )


def _is_plain(codecs: list[dict[str, Any]]) -> bool:
    """Little-endian bytes, at most compressed by blosc."""
    return codecs[0] == {"name": "bytes", "configuration": {"endian": "little"}} and [
        codec["name"] for codec in codecs[1:]
    ] in ([], ["blosc"])


class _LocalArray:
    """Files read by preadv(2) and decoded by blosc."""

    def __init__(self, folder: Path, array: StoreArray, metadata: dict[str, Any]) -> None:
        self._folder = folder
        # Through this descriptor an old store stays readable while a new one takes its name.
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._array = array
        codecs = metadata["codecs"]
        self._sharded = codecs[0]["name"] == "sharding_indexed"
        inner = codecs[0]["configuration"]["codecs"] if self._sharded else codecs
        self._compressed = len(inner) > 1
        height, width = metadata["shape"][-2:]
        shape = array.chunk_shape(height, width)
        self._chunk_shape = shape[2:] if array.bands else shape[1:]
        self._months = array.shard_shape(height, width)[1] if self._sharded else None
        self._shards: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        shard = self._shard(chip)
        size = shard.chunk_size(month)
        whole = out.shape == self._chunk_shape and out.flags.c_contiguous
        if size is None:
            out[...] = self._array.fill
        elif self._compressed:
            self._decode(shard, month, size, out, top, left, whole)
        elif size != np.prod(self._chunk_shape) * self._array.dtype.itemsize:
            raise shard.damage("a chunk has a wrong size")
        elif whole:
            shard.read_into(month, _bytes_of(out))
        else:
            self._read_rows(shard, month, out, top, left)

    def _decode(
        self,
        shard: OpenShard,
        month: int,
        size: int,
        out: NDArray,
        top: int,
        left: int,
        whole: bool,
    ) -> None:
        encoded = _scratch_bytes("encoded", size)
        shard.read_into(month, encoded)
        if size < 16 or struct.unpack_from("<I", encoded, 12) != (size,):
            # blosc would believe its header and read past the end.
            raise shard.damage("a chunk has a wrong size")
        try:
            if whole:
                numcodecs.blosc.decompress(encoded, out)
                return
            chunk = _scratch_array("decoded", self._chunk_shape, self._array.dtype)
            numcodecs.blosc.decompress(encoded, chunk)
        except (RuntimeError, ValueError) as error:
            raise shard.damage("a chunk can't be decoded") from error
        height, width = out.shape[-2:]
        out[...] = chunk[..., top : top + height, left : left + width]

    def _read_rows(self, shard: OpenShard, month: int, out: NDArray, top: int, left: int) -> None:
        """Read only the rows of the window, band by band."""
        height, width = out.shape[-2:]
        full_height, full_width = self._chunk_shape[-2:]
        item = self._array.dtype.itemsize
        rows = _scratch_array("rows", (height, full_width), self._array.dtype)
        for band, target in enumerate(out.reshape(-1, height, width)):
            first = (band * full_height + top) * full_width * item
            shard.read_into(month, _bytes_of(rows), first)
            target[...] = rows[:, left : left + width]

    def _shard(self, chip: int) -> OpenShard:
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

    def _open(self, chip: int) -> OpenShard:
        name = self._array.file_name(chip)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._descriptor)
        except FileNotFoundError:
            raise BadInputError(
                f"{self._folder / name} is missing, or the store was replaced: start again; "
                "if it is still missing, delete the chip store and pack it again."
            ) from None
        return OpenShard(str(self._folder / name), descriptor, self._months)


class _ZarrArray:
    """Any array that zarr-python reads: other codecs, other layouts, object storage."""

    def __init__(self, group: str, array: StoreArray) -> None:
        import zarr  # a second of start-up that the direct way doesn't need

        self._array = zarr.open_array(f"{group}/{array.name}", mode="r")
        self._has_months = bool(array.bands)

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        height, width = out.shape[-2:]
        window = (..., slice(top, top + height), slice(left, left + width))
        where = (chip, month, *window) if self._has_months else (chip, *window)
        out[...] = self._array[where]


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
