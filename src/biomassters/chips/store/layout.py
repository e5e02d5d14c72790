"""Names, shapes and metadata of a chip store, shared by its writer and its reader.

A store is a Zarr v3 hierarchy with one group per split; a chunk is a month of a chip, or its label,
and a file (shard) is a chip. Its metadata follow the CF conventions (https://cfconventions.org), so
that xarray gives dB and NaN without help. Next: ``shards.py`` (values to bytes), ``manifest.py``.
"""

import base64
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from biomassters.chips.bands import MONTH_COUNT, SENSORS, Sensor
from biomassters.io.storage import Place, place_of

FORMAT_VERSION = 2
"""Version 1 had no checksums of chunks: a flipped bit was read as another image."""
MANIFEST_NAME = "manifest.json"
RECORDS = ".records/"  # of an unfinished store; the name of a split has no dot
BLOSC_LEVELS = {"lz4": 5, "zstd": 3}
CODECS = (*BLOSC_LEVELS, "none")

_LITTLE_ENDIAN: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
_CHECKSUM: dict[str, Any] = {"name": "crc32c"}


def partial_place(place: Place) -> Place:
    """Where a store grows until it is complete."""
    return place_of(f"{place}.partial")


@dataclass(frozen=True)
class StoreArray:
    """One array of pixels."""

    name: str
    dtype: np.dtype
    fill: float  # value of a chunk that was left out
    bands: tuple[str, ...]  # bands of one chunk; empty for an array without a band axis
    dimensions: tuple[str, ...]  # names of the axes
    attributes: dict[str, Any]  # CF attributes

    @property
    def chunk_count(self) -> int:
        """Chunks of a chip: its months, or its label."""
        return MONTH_COUNT if self.bands else 1

    def chunk_shape(self, height: int, width: int) -> tuple[int, ...]:
        """[bands, h, w] of a month, or [h, w] of a label: the smallest piece that can be read."""
        return (len(self.bands), height, width) if self.bands else (height, width)

    def metadata(self, chips: int, height: int, width: int, codec: str) -> dict[str, Any]:
        """The array's ``zarr.json``, Zarr v3: the only layout that is written, and read.

        The last codec of a chunk is a checksum, which zarr-python checks as well.
        """
        piece = self.chunk_shape(height, width)
        in_file = piece
        codecs = [_LITTLE_ENDIAN, _CHECKSUM]
        if codec != "none":
            blosc = {
                "typesize": self.dtype.itemsize,
                "cname": codec,
                "clevel": BLOSC_LEVELS[codec],
                "shuffle": "bitshuffle",
                "blocksize": 0,
            }
            codecs.insert(1, {"name": "blosc", "configuration": blosc})
        if self.bands:
            in_file = (MONTH_COUNT, *piece)
            sharding = {
                "chunk_shape": [1, 1, *piece],
                "codecs": codecs,
                "index_codecs": [_LITTLE_ENDIAN, _CHECKSUM],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [chips, *in_file],
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *in_file]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": "NaN" if np.isnan(self.fill) else self.fill,
            "codecs": codecs,
            "attributes": self.attributes,
            "dimension_names": list(self.dimensions),
            "storage_transformers": [],
        }

    def file_name(self, chip: int) -> str:
        """Name of a chip's file; flat, because Zarr's default makes four folders a chip."""
        return ".".join(["c", str(chip)] + ["0"] * (len(self.dimensions) - 1))

    def key(self, split: str, chip: int) -> str:
        """Name of a chip's file within the store."""
        return f"{split}/{self.name}/{self.file_name(chip)}"


def _of_sensor(sensor: Sensor) -> StoreArray:
    attributes: dict[str, Any] = {"long_name": sensor.cf_name, "units": sensor.cf_units}
    if sensor.floor is not None:
        attributes |= {"scale_factor": sensor.scale, "_FillValue": sensor.fill}
    if sensor.cf_comment:
        attributes["comment"] = sensor.cf_comment
    axes = ("chip", "month", f"{sensor.name}_band", "y", "x")
    return StoreArray(sensor.name, sensor.packed_dtype, sensor.fill, sensor.bands, axes, attributes)


IMAGE_ARRAYS = tuple(map(_of_sensor, SENSORS))
AGB_ARRAY = StoreArray(
    "agb",
    np.dtype("<f4"),
    float("nan"),
    (),
    ("chip", "y", "x"),
    {
        "long_name": "Aboveground biomass density",
        "units": "Mg ha-1",
        # xarray reads a float fill value of Zarr v3 as base64 of a little-endian double.
        "_FillValue": base64.b64encode(struct.pack("<d", float("nan"))).decode(),
    },
)
ARRAYS = (*IMAGE_ARRAYS, AGB_ARRAY)
