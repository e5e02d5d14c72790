"""Names, shapes and metadata of a chip store, shared by its writer and its reader.

A store is a Zarr v3 hierarchy with one group per split. Its metadata follows the CF
conventions (https://cfconventions.org), so that xarray gives dB and NaN without help.
"""

import base64
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, S1, S1_STORE_FILL, S1_STORE_SCALE_DB, S2
from biomassters.chips.packing import S2_STORE_FILL

FORMAT_VERSION = 1
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


def encode(values: NDArray, codec: str) -> bytes | memoryview:
    """Encode one chunk.

    Args:
        values: Array of any shape, C-contiguous.
        codec: One of ``CODECS``.

    Returns:
        The bytes of the chunk.
    """
    if codec == "none":
        return values.data.cast("B")
    shuffle = numcodecs.blosc.BITSHUFFLE
    return numcodecs.blosc.compress(values, codec.encode(), _BLOSC_LEVELS[codec], shuffle)


def partial_path(path: Path) -> Path:
    """Where a store grows until it is complete."""
    return path.with_name(path.name + ".partial")


def work_url(url: str) -> str:
    """Where the writer of a store at a URL keeps its journal and what isn't public yet."""
    return f"{url}.partial"
