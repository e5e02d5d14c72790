"""Two ways to read one chunk of a store's array: straight from a local file, or by Zarr.

The direct way knows just the layout that ``store_writer`` produces. Whatever else lies
there is left to zarr-python.
"""

import json
import os
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from biomassters.chips.local_array import LocalArray
from biomassters.chips.store_layout import StoreArray
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
    if isinstance(store, Path) and hasattr(os, "preadv"):
        place = store / split / array.name / "zarr.json"
        try:
            metadata = json.loads(place.read_text())
        except (FileNotFoundError, ValueError):
            raise BadInputError(
                f"{place} is missing or damaged: delete the chip store and pack it again."
            ) from None
        if _is_direct(metadata, array):
            return LocalArray(store / split / array.name, array, metadata)
    return ZarrArray(f"{store}/{split}", array)


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
    """Any array that zarr-python reads: other codecs, other layouts, object storage.

    Args:
        group: Folder or URL of the split's group.
        array: Which array it is.
    """

    def __init__(self, group: str, array: StoreArray) -> None:
        import zarr  # a second of start-up that the direct way doesn't need

        self._array = zarr.open_array(f"{group}/{array.name}", mode="r")
        self._has_months = bool(array.bands)

    def read_into(self, chip: int, month: int, out: NDArray, top: int, left: int) -> None:
        """Fill ``out`` with a window of a chunk; see ``ChunkReader``."""
        height, width = out.shape[-2:]
        window = (..., slice(top, top + height), slice(left, left + width))
        where = (chip, month, *window) if self._has_months else (chip, *window)
        out[...] = self._array[where]
