"""An array of a store, opened for reading once its metadata are what the writer writes."""

import json
from pathlib import Path
from typing import Any

from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.store.file_shards import FileShards
from biomassters.chips.store.layout import StoreArray
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.packed_array import PackedArray
from biomassters.chips.store.url_shards import UrlShards
from biomassters.errors import BadInputError
from biomassters.io.files import read_regular
from biomassters.io.storage import is_url, read


def open_array(
    store: Path | str, split: str, array: StoreArray, records: list[ChipRecord], codec: str
) -> PackedArray:
    """Open an array of pixels.

    Args:
        store: The store's folder or URL.
        split: The split's group.
        array: Which array.
        records: The split's chips, by index.
        codec: The store's codec.

    Returns:
        A reader that threads may share.

    Raises:
        BadInputError: The array's metadata are missing, damaged or changed. Values read by
            another layout (transposed, big-endian) would look like an image, too.
    """
    place = f"{store}/{split}/{array.name}"
    expected = array.metadata(len(records), records[0].height, records[0].width, codec)
    if read_metadata(place) != expected:
        raise BadInputError(
            f"{place}/zarr.json is not what was written with this store: run the pipeline "
            "data_engineering again, which writes it anew."
        )
    shards = UrlShards(place, array) if isinstance(store, str) else FileShards(Path(place), array)
    crcs = [record.chunk_crcs.get(array.name, ()) for record in records]
    if any(len(found) != (MONTH_COUNT if array.bands else 1) for found in crcs):
        raise BadInputError(
            f"The manifest of {store} lacks checksums of {array.name}: run the pipeline "
            "data_engineering, which packs it again."
        )
    return PackedArray(shards, array, expected["shape"][-2:], codec, crcs)


def read_metadata(place: str) -> dict[str, Any]:
    """An array's ``zarr.json``.

    Raises:
        BadInputError: It is missing or no JSON.
    """
    name = f"{place}/zarr.json"
    try:
        text = read(name) if is_url(name) else read_regular(name)
        return dict(json.loads(text))
    except BadInputError:
        raise
    except (FileNotFoundError, RecursionError, TypeError, ValueError):
        raise BadInputError(
            f"{name} is missing or damaged: run the pipeline data_engineering again, which writes "
            "it anew."
        ) from None
