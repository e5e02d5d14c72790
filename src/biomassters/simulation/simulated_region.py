"""One seamless region, made and written window by window: memory stays the same at any size.

``SimulatedRegion`` makes any window of it, ``write_region`` writes one GeoTIFF a month and sensor,
the true biomass, and a label raster of a part, such as laser scanning gives.
"""

import hashlib
import json
import operator
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import PIXEL_SIZE_M, SENSOR, SENSORS
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.io.files import require_space
from biomassters.io.gdal import gdal_environment, open_raster, parse_crs
from biomassters.simulation.landscape import make_landscape, without_margin
from biomassters.simulation.options import RegionSimulationOptions
from biomassters.simulation.random_fields import Window
from biomassters.simulation.simulated_images import simulate_year
from biomassters.simulation.year import everything, make_availability, make_weather

REGION_VERSION = 2  # raise it with every change that changes a region
TILE_PIXELS = 256  # even, so that Sentinel-2's 20 m pixels keep their place
NORTH_OF_CHIPS = 4096  # the archive's chips begin at row 0: none of them lies in a region
NOTE = "region_simulation.json"
TRUTH = "agb.tif"
LABEL = "label.tif"
LABEL_PIXELS = 2  # of the region, along a side of the label's: 20 m
LABEL_NODATA = -1.0
SIMULATED_TAG = "simulated"  # of each file, so that one that is copied elsewhere still says so
_REGION = 0x7E6104  # keeps the draws apart from those of the chips


@dataclass(frozen=True, eq=False)
class RegionTile:
    """A window of a region, with all that there is to see."""

    window: Window  # where, from the region's upper left corner
    # By sensor [12, bands, H, W], packed integers as in a chip store.
    images: Mapping[str, NDArray[Any]]
    agb_mg_per_ha: NDArray[np.float32]  # float32 [H, W], the truth


class SimulatedRegion:
    """A region in which any window can be made on its own, and agrees with its neighbours.

    The weather, the gaps and what a whole image shares are drawn once for all windows.
    """

    def __init__(self, options: RegionSimulationOptions) -> None:
        self.options = options
        self._weather = make_weather(self._random(0))
        gaps = self._random(1)
        self._available = (
            make_availability(gaps, "test") if options.missing_images else everything()
        )

    @property
    def present(self) -> NDArray[np.bool_]:
        """Bool [12, sensors]: images that exist of the months to write."""
        wanted = np.isin(np.arange(12), self.options.months)
        return wanted[:, None] & self._available.present

    def tiles(self) -> Iterator[RegionTile]:
        """All windows, row by row; at the right and lower border they are narrower."""
        for top in range(0, self.options.height, TILE_PIXELS):
            for left in range(0, self.options.width, TILE_PIXELS):
                height = min(TILE_PIXELS, self.options.height - top)
                width = min(TILE_PIXELS, self.options.width - left)
                yield self.tile(Window(top, left, height, width))

    def tile(self, window: Window) -> RegionTile:
        """Make one window, given from the region's upper left corner; top and left are even."""
        options, weather = self.options, self._weather
        # Sentinel-2's coarse pixels are pairs of rows and columns: make whole ones.
        whole = replace(window, height=_even(window.height), width=_even(window.width))
        top = -NORTH_OF_CHIPS - _even(options.height) + whole.top
        landscape = make_landscape(replace(whole, top=top), options.seed)
        size = (options.height, options.width)
        edges = self._available.swath_edges.items()
        available = replace(
            self._available, swath_edges={month: edge.within(size, whole) for month, edge in edges}
        )
        images = simulate_year(
            landscape, weather, available, options, lambda column: self._random(2 + column)
        )
        agb = landscape.forest.label_mg_per_ha[without_margin(landscape.window)]
        part = (..., slice(window.height), slice(window.width))
        packed = {name: SENSOR[name].pack(year[part]) for name, year in images.items()}
        return RegionTile(window, packed, agb[part])

    def _random(self, purpose: int) -> np.random.Generator:
        """A new generator for each window, so that all of them draw the same."""
        return np.random.default_rng([self.options.seed, _REGION, purpose])


def _even(count: int) -> int:
    return count + count % 2


def write_region(region: SimulatedRegion, folder: Path) -> bool:
    """Write ``S1_00.tif`` … ``S2_11.tif``, ``agb.tif`` and ``label.tif``, unless they are there.

    The folder takes its name when every file is complete.

    Returns:
        Whether anything was written.

    Raises:
        BadInputError: The folder holds something else, or the disk is too small.
    """
    options = region.options
    facts = {
        "version": REGION_VERSION,
        "options": options.model_dump(mode="json", exclude={"plots"}),
    }
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    if _is_there(folder, fingerprint):
        return False
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    images = region.present.sum(axis=0).tolist()
    bands = [len(sensor.bands) for sensor in SENSORS]
    a_pixel = 2 * sum(map(operator.mul, images, bands)) + 4
    needed = options.width * options.height * a_pixel
    require_space(partial.parent, needed, f"The simulated region in {folder}")
    _write_images(region, partial)
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


def _write_images(region: SimulatedRegion, folder: Path) -> None:
    """Every image that exists, and the truth, all open at once and written tile by tile."""
    # Imported here: the command line would wait for rasterio.
    from rasterio.windows import Window as RasterWindow

    options = region.options
    tiles = -(-options.height // TILE_PIXELS) * -(-options.width // TILE_PIXELS)
    with gdal_environment(GDAL_CACHEMAX=64 * 2**20), ExitStack() as stack:
        files = {}
        for month, number in np.argwhere(region.present):
            sensor = SENSORS[number]
            path = folder / f"{sensor.tag}_{month:02d}.tif"
            nodata = None if sensor.floor is None else sensor.fill
            dtype = sensor.packed_dtype.name
            file = stack.enter_context(_create(options, path, sensor.bands, dtype, nodata))
            if sensor.scale != 1:
                file.scales = (sensor.scale,) * len(sensor.bands)
            file.units = tuple(band.unit for band in sensor.table)
            files[month, sensor.name] = file
        truth = stack.enter_context(
            _create(options, folder / TRUTH, ("AGB",), "float32", float("nan"))
        )
        coarse = options.model_copy(
            update={
                "width": options.width // LABEL_PIXELS,
                "height": options.height // LABEL_PIXELS,
            }
        )
        label = stack.enter_context(
            _create(
                coarse, folder / LABEL, ("AGB",), "float32", LABEL_NODATA,
                PIXEL_SIZE_M * LABEL_PIXELS,
            )
        )  # fmt: skip
        truth.units = label.units = ("Mg/ha",)
        for tile in tracked(region.tiles(), "simulating", tiles):
            place = RasterWindow(
                tile.window.left, tile.window.top, tile.window.width, tile.window.height
            )
            for (month, name), file in files.items():
                file.write(tile.images[name][month], window=place)
            truth.write(tile.agb_mg_per_ha, 1, window=place)
            scanned = scanned_label(tile, options)
            height, width = scanned.shape
            place = RasterWindow(
                tile.window.left // LABEL_PIXELS, tile.window.top // LABEL_PIXELS, width, height
            )
            label.write(scanned, 1, window=place)


def scanned_label(tile: RegionTile, options: RegionSimulationOptions) -> NDArray[np.float32]:
    """Mean biomass of the label's pixels, float32 [H // 2, W // 2], west of a slanting line.

    The line leaves about half of the region, from its upper edge at 60 % of the width to its lower
    one at 40 %; beyond it is −1, no data.
    """
    side, window = LABEL_PIXELS, tile.window
    height, width = window.height // side, window.width // side
    agb = tile.agb_mg_per_ha[: height * side, : width * side].astype(np.float64)
    mean = agb.reshape(height, side, width, side).mean(axis=(1, 3))
    rows = (window.top + side * (np.arange(height)[:, None] + 0.5)) / options.height
    columns = (window.left + side * (np.arange(width) + 0.5)) / options.width
    return np.where(columns < 0.6 - 0.2 * rows, mean, LABEL_NODATA).astype(np.float32)


def _create(
    options: RegionSimulationOptions,
    path: Path,
    bands: tuple[str, ...],
    dtype: str,
    nodata: float | None,
    pixel_m: float = PIXEL_SIZE_M,
) -> Any:
    from rasterio.transform import from_origin

    transform = from_origin(options.west_m, options.north_m, pixel_m, pixel_m)
    file = open_raster(
        path, "w", count=len(bands), dtype=dtype, nodata=nodata, width=options.width,
        height=options.height, crs=parse_crs(options.crs, "region_simulation.crs"),
        transform=transform, tiled=True, blockxsize=TILE_PIXELS, blockysize=TILE_PIXELS,
        interleave="pixel", compress="zstd", zstd_level=1,
        predictor=3 if dtype == "float32" else 2, bigtiff="if_safer",
    )  # fmt: skip
    file.descriptions = bands
    file.update_tags(**{SIMULATED_TAG: "yes"})
    return file
