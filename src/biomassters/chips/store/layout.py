"""Names, shapes and metadata of a chip store, shared by its writer and its reader.

A store is a Zarr v3 hierarchy with one group per split. Its metadata follows the CF
conventions (https://cfconventions.org), so that xarray gives dB and NaN without help.
"""

import base64
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numcodecs.blosc
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, S1, S1_STORE_FILL, S1_STORE_SCALE_DB, S2
from biomassters.chips.store.integers import S2_STORE_FILL

FORMAT_VERSION = 2
"""Version 1 had no checksums of chunks: a flipped bit was read as another image."""
CRC_BYTES = 4
MANIFEST_NAME = "manifest.json"
PLAN_NAME = "plan.json"  # of an unfinished store at a URL
CODECS = ("lz4", "zstd", "none")

# zarr-python sets the same switch: blosc's own pool of threads is global and holds the GIL,
# its contextual calls release it and may run side by side.
numcodecs.blosc.use_threads = False
_BLOSC_LEVELS = {"lz4": 5, "zstd": 3}


@dataclass(frozen=True)
class StoreArray:
    """One array of pixels.

    Attributes:
        name: Name within the split's group.
        dtype: Type of the stored values.
        fill: Value of a chunk that was left out.
        bands: Bands of one chunk; empty for an array without a band axis.
        dimensions: Names of the axes.
        attributes: CF attributes.
    """

    name: str
    dtype: np.dtype
    fill: float
    bands: tuple[str, ...]
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]

    def shape(self, chips: int, height: int, width: int) -> tuple[int, ...]:
        """Shape of the whole array."""
        return (chips, *self.shard_shape(height, width)[1:])

    def shard_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of what one file holds: all that belongs to one chip."""
        if not self.bands:
            return (1, height, width)
        return (1, MONTH_COUNT, len(self.bands), height, width)

    def chunk_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of the smallest piece that can be read: one month, or the label."""
        if not self.bands:
            return (1, height, width)
        return (1, 1, len(self.bands), height, width)

    def metadata(self, chips: int, height: int, width: int, codec: str) -> dict[str, Any]:
        """The array's ``zarr.json``, Zarr v3: the only layout that is written, and read.

        The last codec of a chunk is a checksum (``crc32c``), which zarr-python checks as well.
        """
        chunk, shard = self.chunk_shape(height, width), self.shard_shape(height, width)
        codecs = [_LITTLE_ENDIAN, *_compression(self, codec), {"name": "crc32c"}]
        if chunk != shard:
            sharding = {
                "chunk_shape": list(chunk),
                "codecs": codecs,
                "index_codecs": [_LITTLE_ENDIAN, {"name": "crc32c"}],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape(chips, height, width)),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard)}},
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


S1_ARRAY = StoreArray(
    "s1",
    np.dtype("<i2"),
    S1_STORE_FILL,
    S1.bands,
    ("chip", "month", "s1_band", "y", "x"),
    {
        "long_name": "Sentinel-1 backscatter",
        "units": "dB",
        "scale_factor": S1_STORE_SCALE_DB,
        "_FillValue": S1_STORE_FILL,
    },
)
S2_ARRAY = StoreArray(
    "s2",
    np.dtype("<u2"),
    S2_STORE_FILL,
    S2.bands,
    ("chip", "month", "s2_band", "y", "x"),
    {
        "long_name": "Sentinel-2 reflectance times 10000, and cloud probability",
        "units": "1",
        "comment": "Bands B2 to B12: reflectance times 10000. CLP: cloud probability in percent, "
        "255 where there is none. 0 throughout in a month without an image, see present.",
    },
)
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
ARRAYS = (S1_ARRAY, S2_ARRAY, AGB_ARRAY)


_LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}


def _compression(array: StoreArray, codec: str) -> list[dict[str, Any]]:
    if codec == "none":
        return []
    configuration = {
        "typesize": array.dtype.itemsize,
        "cname": codec,
        "clevel": _BLOSC_LEVELS[codec],
        "shuffle": "bitshuffle",
        "blocksize": 0,
    }
    return [{"name": "blosc", "configuration": configuration}]


class EncodedChunk(NamedTuple):
    """One chunk as a file holds it: its bytes, then their checksum.

    Attributes:
        content: Encoded values.
        crc: CRC-32C of ``content``.
    """

    content: bytes | memoryview
    crc: int

    @property
    def parts(self) -> list[bytes | memoryview]:
        """What is written, one after another."""
        return [self.content, struct.pack("<I", self.crc)]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self.content) + CRC_BYTES


def encode(values: NDArray, codec: str) -> EncodedChunk:
    """Encode one chunk.

    Args:
        values: Array of any shape, C-contiguous.
        codec: One of ``CODECS``.
    """
    if codec == "none":
        content = values.data.cast("B")
    else:
        shuffle = numcodecs.blosc.BITSHUFFLE
        content = numcodecs.blosc.compress(values, codec.encode(), _BLOSC_LEVELS[codec], shuffle)
    return EncodedChunk(content, crc32c(content))


def partial_path(path: Path) -> Path:
    """Where a store grows until it is complete."""
    return path.with_name(path.name + ".partial")


def work_url(url: str) -> str:
    """Where the writer of a store at a URL keeps its journal and what isn't public yet."""
    return f"{url}.partial"
