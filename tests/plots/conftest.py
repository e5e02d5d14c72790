"""A small map whose every value is known, and plots on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin

WEST, NORTH, PIXEL = 400_000.0, 6_900_000.0, 10.0


@pytest.fixture
def write_map(tmp_path: Path) -> Callable[..., Path]:
    """Writes bands [b, h, w] of float32 in EPSG:3067."""

    def write(values: np.ndarray, name: str = "map.tif", **profile: object) -> Path:
        bands = np.atleast_3d(values) if values.ndim == 3 else values[None]
        path = tmp_path / name
        options = {
            "crs": "EPSG:3067", "transform": from_origin(WEST, NORTH, PIXEL, PIXEL),
            "nodata": float("nan"),
        } | profile  # fmt: skip
        with rasterio.open(
            path, "w", driver="GTiff", count=len(bands), dtype="float32", height=bands.shape[1],
            width=bands.shape[2], **options,
        ) as file:  # fmt: skip
            file.write(bands.astype(np.float32))
        return path

    return write


@pytest.fixture
def write_plots(tmp_path: Path) -> Callable[..., Path]:
    """Writes columns as CSV; places are given in pixels of the map, column and row."""

    def write(columns: dict[str, object], name: str = "plots.csv") -> Path:
        table = pd.DataFrame(columns)
        if "column" in table:
            table["x"] = WEST + PIXEL * table.pop("column")
            table["y"] = NORTH - PIXEL * table.pop("row")
        path = tmp_path / name
        table.to_csv(path, index=False)
        return path

    return write
