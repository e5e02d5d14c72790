"""The Zarr metadata and small arrays of a store whose chips are all written.

They turn shard files in ``<split>/<array>/`` into a hierarchy that zarr-python and xarray open.
"""

import json
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.storage import MemoryStore

from biomassters.chips.bands import MONTH_COUNT, MONTH_NAMES, SENSORS
from biomassters.chips.store.layout import AGB_ARRAY, ARRAYS
from biomassters.chips.store.manifest import ChipRecord, Manifest


def metadata_files(manifest: Manifest) -> dict[str, list[bytes]]:
    """Content of each metadata file by its key, in pieces."""
    files: dict[str, Buffer] = {}
    root = zarr.open_group(MemoryStore(files), mode="w", zarr_format=3)
    root.attrs.update({"Conventions": "CF-1.11", "title": "BioMassters chip store"})
    for split in manifest.splits:
        group = root.require_group(split)
        group.attrs.update({"Conventions": "CF-1.11", "coordinates": "chip_id month_name"})
        records = manifest.of_split(split)
        _write_coordinates(group, records)
    written = {key: [content.to_bytes()] for key, content in files.items()}
    return written | {
        f"{name}/zarr.json": [json.dumps(metadata, indent=2).encode()]
        for name, metadata in array_metadata(manifest).items()
    }


def array_metadata(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The ``zarr.json`` of each array of pixels, by ``<split>/<array>``."""
    described = {}
    for split in manifest.splits:
        records = manifest.of_split(split)
        shape = len(records), records[0].height, records[0].width
        for array in ARRAYS:
            if array is not AGB_ARRAY or any(record.labelled for record in records):
                described[f"{split}/{array.name}"] = array.metadata(*shape, manifest.codec)
    return described


def _write_coordinates(group: zarr.Group, records: list[ChipRecord]) -> None:
    months = np.arange(MONTH_COUNT, dtype=np.int8)
    present = np.stack([record.present_mask() for record in records])
    _small(group, "chip_id", ("chip",), _text(r.chip_id for r in records), "Name of the chip")
    _small(group, "month", ("month",), months, "Month, 0 (September) to 11 (August)")
    _small(group, "month_name", ("month",), _text(MONTH_NAMES), "Name of the month")
    for sensor in SENSORS:
        axis = f"{sensor.name}_band"
        _small(group, axis, (axis,), _text(sensor.bands), sensor.band_axis)
    _small(group, "sensor", ("sensor",), _text(s.name for s in SENSORS), "Satellite")
    _small(group, "present", ("chip", "month", "sensor"), present, "Whether the month has an image")


def _text(values: Any) -> NDArray:
    # The only text type with a Zarr v3 specification, hence without a warning.
    return np.array(list(values), dtype=np.dtypes.StringDType())


def _small(
    group: zarr.Group, name: str, dimensions: tuple[str, ...], values: NDArray, long_name: str
) -> None:
    group.create_array(
        name,
        data=values,
        chunks=values.shape,
        dimension_names=dimensions,
        attributes={"long_name": long_name},
        overwrite=True,
    )
