"""A simulated region on disk: one GeoTIFF a month and sensor, and the truth."""

import hashlib
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from biomassters.chips.bands import (
    PIXEL_SIZE_M,
    S1,
    S1_STORE_FILL,
    S1_STORE_SCALE_DB,
    S2,
    SENSORS,
    Sensor,
)
from biomassters.errors import BadInputError
from biomassters.io.files import require_space
from biomassters.io.gdal import gdal_environment, open_raster, parse_crs
from biomassters.progress_bar import tracked
from biomassters.simulation.region import TILE_PIXELS, RegionTile, SimulatedRegion

REGION_VERSION = 1  # raise it with every change that changes a region
NOTE = "region_simulation.json"
TRUTH = "agb.tif"
SIMULATED_TAG = "simulated"  # of each file, so that one that is copied elsewhere still says so


def write_region(region: SimulatedRegion, folder: Path, *, progress: bool = True) -> bool:
    """Write ``S1_00.tif`` … ``S2_11.tif`` and ``agb.tif``, unless the same are there already.

    Args:
        region: What to write.
        folder: Where to; takes its name when every file is complete.
        progress: Show a bar on stderr.

    Returns:
        Whether anything was written.

    Raises:
        BadInputError: The folder holds something else, or the disk is too small.
    """
    facts = {"version": REGION_VERSION, "options": region.options.model_dump(mode="json")}
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    if _is_there(folder, fingerprint):
        return False
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pixels = region.options.width * region.options.height
    images = region.present.sum(axis=0)
    needed = pixels * int(images[0] * len(S1.bands) * 2 + images[1] * len(S2.bands) * 2 + 4)
    require_space(partial.parent, needed, f"The simulated region in {folder}")
    _write_tiles(region, partial, progress)
    (partial / NOTE).write_text(json.dumps({**facts, "fingerprint": fingerprint}, indent=2) + "\n")
    if folder.exists():
        shutil.rmtree(folder)  # an earlier simulation: _is_there refuses anything else
    partial.replace(folder)
    return True


def _is_there(folder: Path, fingerprint: str) -> bool:
    """Whether just this region lies there; anything that was not simulated is refused."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / NOTE).read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInputError(
            f"{folder} holds files that were not simulated: choose another folder with "
            "'--params region_root=FOLDER'."
        ) from None
    return bool(found == fingerprint)


def _write_tiles(region: SimulatedRegion, folder: Path, progress: bool) -> None:

    options = region.options
    tiles = -(-options.height // TILE_PIXELS) * -(-options.width // TILE_PIXELS)
    with gdal_environment(GDAL_CACHEMAX=64 * 2**20), ExitStack() as stack:
        files = _open_images(region, folder, stack)
        truth = stack.enter_context(
            _create(region, folder / TRUTH, 1, "float32", float("nan"), ("AGB",))
        )
        truth.units = ("Mg/ha",)
        for tile in tracked(region.tiles(), "simulating", tiles, shown=progress):
            _write_tile(tile, files, truth)


def _open_images(
    region: SimulatedRegion, folder: Path, stack: ExitStack
) -> dict[tuple[int, str], Any]:
    """Every image that exists, by month and sensor, opened for writing."""
    files = {}
    for month, number in np.argwhere(region.present):
        sensor = SENSORS[number]
        path = folder / f"{sensor.file_tag}_{month:02d}.tif"
        nodata = S1_STORE_FILL if sensor is S1 else None
        dtype = "int16" if sensor is S1 else "uint16"
        file = _create(region, path, len(sensor.bands), dtype, nodata, sensor.bands)
        stack.enter_context(file)
        _describe(file, sensor)
        files[int(month), sensor.name] = file
    return files


def _describe(file: Any, sensor: Sensor) -> None:
    if sensor is S1:
        file.scales = (S1_STORE_SCALE_DB,) * len(sensor.bands)
        file.units = ("dB",) * len(sensor.bands)
    else:
        file.units = ("reflectance x 10000",) * (len(sensor.bands) - 1) + ("percent",)


def _create(
    region: SimulatedRegion,
    path: Path,
    count: int,
    dtype: str,
    nodata: float | None,
    names: tuple[str, ...],
) -> Any:
    from rasterio.transform import from_origin

    options = region.options
    transform = from_origin(options.west_m, options.north_m, PIXEL_SIZE_M, PIXEL_SIZE_M)
    file = open_raster(
        path, "w", count=count, dtype=dtype, nodata=nodata, width=options.width,
        height=options.height, crs=parse_crs(options.crs, "region_simulation.crs"),
        transform=transform, tiled=True, blockxsize=TILE_PIXELS, blockysize=TILE_PIXELS,
        interleave="pixel", compress="zstd", zstd_level=1,
        predictor=3 if dtype == "float32" else 2, bigtiff="if_safer",
    )  # fmt: skip
    file.descriptions = names
    file.update_tags(**{SIMULATED_TAG: "yes"})
    return file


def _write_tile(tile: RegionTile, files: dict[tuple[int, str], Any], truth: Any) -> None:
    from rasterio.windows import Window

    place = Window(tile.window.left, tile.window.top, tile.window.width, tile.window.height)
    for (month, sensor), file in files.items():
        file.write((tile.s1 if sensor == S1.name else tile.s2)[month], window=place)
    truth.write(tile.agb_mg_per_ha, 1, window=place)
