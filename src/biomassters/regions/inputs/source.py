"""A year of images of a region, read window by window on the map's grid."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import S1, S1_STORE_FILL, S2, SENSORS
from biomassters.errors import BadInputError
from biomassters.messages import redact
from biomassters.regions.area import Area
from biomassters.regions.grid import Grid, PixelWindow
from biomassters.regions.inputs.cube import is_cube, read_cube
from biomassters.regions.inputs.folder import read_folder
from biomassters.regions.inputs.layers import Layer, RasterLayer
from biomassters.regions.inputs.month_image import MonthLayers
from biomassters.regions.inputs.range_check import check_ranges
from biomassters.regions.inputs.stac import read_item_collection
from biomassters.regions.map_grid import settle_grid
from biomassters.regions.options import AreaOptions, ImageOptions
from biomassters.simulation.simulated_region import NOTE

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class WindowImages:
    """A year of images in one window of the map, only the months that exist.

    Attributes:
        months: Which months, ascending.
        s1: int16 [M, 4, h, w] in 0.01 dB; −32768 where there is no data.
        s2: uint16 [M, 11, h, w], counts.
        inside: bool [h, w]: pixels to be mapped.
    """

    months: tuple[int, ...]
    s1: NDArray[np.int16]
    s2: NDArray[np.uint16]
    inside: NDArray[np.bool_]

    def seen(self) -> NDArray[np.bool_]:
        """Bool [M, h, w]: pixels to be mapped of which a month has data of either sensor."""
        with_s1 = (self.s1 != S1_STORE_FILL).any(axis=1)
        with_s2 = (self.s2[:, : len(S2.bands) - 1] > 0).any(axis=1)
        return (with_s1 | with_s2) & self.inside


@dataclass(frozen=True)
class RegionSource:
    """Images of a region; picklable, for any number of threads and processes.

    Attributes:
        name: Where the images lie.
        grid: Of the map.
        months: What exists.
        area: What of the grid is to be mapped, or None: all of it.
        simulated: Whether the images say that they were simulated.
    """

    name: str
    grid: Grid
    months: tuple[MonthLayers, ...]
    area: Area | None
    simulated: bool = False

    def read(self, window: PixelWindow, pool: ThreadPoolExecutor) -> WindowImages:
        """Read a window; may reach beyond the grid, where there is no data.

        Args:
            window: Of the map.
            pool: Threads that each read one image.

        Raises:
            DamagedFileError: A file can't be read.
        """
        s1 = np.empty((len(self.months), len(S1.bands), *window.shape), np.int16)
        s2 = np.empty((len(self.months), len(S2.bands), *window.shape), np.uint16)

        def fill(index: int) -> None:
            s1[index] = self.months[index].read_s1(self.grid, window)
            s2[index] = self.months[index].read_s2(self.grid, window)

        for _ in pool.map(fill, range(len(self.months))):
            pass
        inside = np.zeros(window.shape, bool)
        part = window.clipped(*self.grid.shape)
        rows, columns = part.slices_in(window)
        inside[rows, columns] = True if self.area is None else self.area.inside(self.grid, part)
        return WindowImages(tuple(month.month for month in self.months), s1, s2, inside)

    def identity(self) -> list[Any]:
        """Which images the map is made of."""
        return [
            (month.month, layer.name, layer.bands)
            for month in self.months
            for layer in (*month.s1, *month.s2)
        ]

    def file_facts(self) -> dict[str, list[int]]:
        """Size and time of change of each file, by name; nothing of what isn't a local file.

        They are written to the scratch folder, so addresses come without their secrets.
        """
        return {redact(layer.name): _file_facts(layer.name) for _, layer in self.layers()}

    def layers(self) -> list[tuple[str, Layer]]:
        """Every image with its sensor's name."""
        return [
            (sensor.name, layer)
            for month in self.months
            for sensor in SENSORS
            for layer in (month.s1 if sensor is S1 else month.s2)
        ]


def _file_facts(name: str) -> list[int]:
    """Size and time of change of a local file; nothing of anything else."""
    try:
        status = Path(name).stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def open_region(place: str, images: ImageOptions, area: AreaOptions) -> RegionSource:
    """Look at the images and settle the map's grid.

    Args:
        place: A folder of monthly rasters, a STAC item collection (JSON), or a Zarr cube.
        images: Bands, units, grid.
        area: What of it is mapped.

    Raises:
        BadInputError: There are no images, they hold something else than they should, or none
            of them meets the area.
    """
    months = _read_months(place, images)
    layers = [layer for month in months for layer in (*month.s2, *month.s1)]
    grid, wanted = settle_grid(layers, images, area, place)
    if wanted is not None and wanted.is_empty(grid):
        raise BadInputError(
            f"The area holds no pixel's centre of the images in {place}: check mapping.area for "
            f"polygons that lie elsewhere or are smaller than a pixel of {images.pixel_size_m:g} m."
        )
    overlapping = _overlapping(months, grid, place)
    source = RegionSource(place, grid, overlapping, wanted, is_simulated(place, layers))
    if images.check_ranges:
        for sensor, layer in source.layers():
            check_ranges(layer, sensor)
    return source


def is_simulated(place: str, layers: list[Layer]) -> bool:
    """Whether images were simulated here: a note lies beside them, or a file's tag says so."""
    folders = {Path(place), *(Path(layer.name).parent for layer in layers)}
    if any((folder / NOTE).is_file() for folder in folders):
        return True
    return any(isinstance(layer, RasterLayer) and layer.says_simulated() for layer in layers[:1])


def _read_months(place: str, images: ImageOptions) -> list[MonthLayers]:
    path = Path(place)
    if place.endswith((".json", ".geojson")):
        return read_item_collection(place, images)
    if is_cube(place):
        return read_cube(place)
    if not path.is_dir():
        raise BadInputError(
            f"There are no images at {place}: give a folder, a STAC item collection or a Zarr "
            "cube with '--params region_root=PLACE', or run '--pipelines region_simulation' first."
        )
    return read_folder(path, images)


def _overlapping(months: list[MonthLayers], grid: Grid, place: str) -> tuple[MonthLayers, ...]:
    """The images that meet the map; those that don't are named in the log and left out."""

    def meets(layer: Layer) -> bool:
        part = layer.grid.window_of(grid.bounds_in(layer.grid.crs)).clipped(*layer.grid.shape)
        if not part.height or not part.width:
            log.warning("%s does not overlap the area and is left out.", layer.name)
            return False
        return True

    kept = [
        MonthLayers(one.month, tuple(filter(meets, one.s1)), tuple(filter(meets, one.s2)))
        for one in months
    ]
    left = tuple(one for one in kept if (*one.s1, *one.s2))
    if not left:
        raise BadInputError(
            f"No image in {place} overlaps the area: check mapping.area and the coordinate systems."
        )
    return left
