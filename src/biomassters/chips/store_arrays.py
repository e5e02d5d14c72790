"""Two ways to read one chunk of a store's array: straight from its shard, or by Zarr.

The direct way knows just the layout that ``store_writer`` produces. Whatever else lies
there is left to zarr-python.
"""

import json
import os
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from biomassters.chips.file_shards import FileShards
from biomassters.chips.packed_array import PackedArray
from biomassters.chips.storage import is_url, read
from biomassters.chips.store_layout import StoreArray
from biomassters.chips.url_shards import UrlShards
from biomassters.errors import BadInputError


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
    place = f"{store}/{split}/{array.name}"
    metadata = _metadata(place)
    direct = _is_direct(metadata, array)
    if isinstance(store, str):
        if not direct:
            raise BadInputError(f"{place} is laid out by other software: copy it to a folder.")
        return PackedArray(UrlShards(place, array), array, metadata)
    if direct and hasattr(os, "preadv"):
        return PackedArray(FileShards(Path(place), array), array, metadata)
    return ZarrArray(place, array)


def _metadata(place: str) -> dict[str, Any]:
    name = f"{place}/zarr.json"
    try:
        text = read(name) if is_url(name) else Path(name).read_bytes()
        return dict(json.loads(text))
    except (FileNotFoundError, JSONDecodeError):
        raise BadInputError(
            f"{name} is missing or damaged: delete the chip store and pack it again."
        ) from None


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


class ZarrArray:
    """Any array in a folder that zarr-python reads: other codecs, other layouts.

    Args:
        folder: The array's folder.
        array: Which array it is.
    """

    def __init__(self, folder: str, array: StoreArray) -> None:
        import zarr  # a second of start-up that the direct way doesn't need

        self._array = zarr.open_array(folder, mode="r")
        self._has_months = bool(array.bands)

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        """Fill ``out`` with a window of a chunk; see ``ChunkReader``."""
        height, width = out.shape[-2:]
        window = (..., slice(top, top + height), slice(left, left + width))
        where = (chip, month, *window) if self._has_months else (chip, *window)
        out[...] = self._array[where]
