"""A year of images of a region, read window by window on the map's grid.

``open_region`` looks at what a user handed in (``layers``, ``stac``, ``cube``) and settles the
map's pixels (``grid``); ``RegionSource.read`` is what the prediction of each block begins with.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from biomassters.chips.bands import S2, SENSORS, Sensor
from biomassters.chips.pixel_checks import image_unit_fault
from biomassters.errors import BadInputError
from biomassters.imagery.area import Area, StatedArea, state_area
from biomassters.imagery.asset_names import CLOUD_PROBABILITY
from biomassters.imagery.options import AreaOptions
from biomassters.imagery.pixel_grid import Grid, clipped, slices_in
from biomassters.imagery.radiometry import SCENE_CLOUDS_PERCENT, SCENE_NODATA
from biomassters.io.raster_spec import DamagedFileError
from biomassters.messages import redact
from biomassters.regions.alignment import read_aligned
from biomassters.regions.grid import settle_grid
from biomassters.regions.inputs.cube import is_cube, read_cube
from biomassters.regions.inputs.layers import (
    Layer,
    MonthLayers,
    RasterLayer,
    Values,
    file_bands,
    read_folder,
)
from biomassters.regions.inputs.stac import SceneComposite, read_item_collection
from biomassters.regions.options import ImageOptions
from biomassters.simulation.simulated_region import NOTE

log = logging.getLogger(__name__)
_PLACES, _PLACE_PIXELS = 4, 64  # along a side: no more is looked at of an image of any size


@dataclass(frozen=True, eq=False)
class WindowImages:
    """A year of images in one window of the map, only the months that exist.

    Attributes:
        months: Which months, ascending.
        images: By sensor [M, bands, h, w], packed integers as in a chip store.
        inside: bool [h, w]: pixels to be mapped.
    """

    months: tuple[int, ...]
    images: Mapping[str, NDArray[Any]]
    inside: NDArray[np.bool_]

    def seen(self) -> NDArray[np.bool_]:
        """Bool [M, h, w]: pixels to be mapped of which a month has data of any sensor."""
        seen = np.zeros((len(self.months), *self.inside.shape), bool)
        for sensor in SENSORS:
            measured = self.images[sensor.name][:, : len(sensor.measured)]
            seen |= (measured != sensor.fill).any(axis=1)
        return seen & self.inside


@dataclass(frozen=True)
class RegionSource:
    """Images of a region; picklable, for any number of threads and processes.

    Attributes:
        name: Where the images lie.
        grid: Of the map.
        area: What of the grid is to be mapped, or None: all of it.
        simulated: Whether the images say that they were simulated.
    """

    name: str
    grid: Grid
    months: tuple[MonthLayers, ...]
    area: Area | None
    simulated: bool = False

    def read(self, window: Window, pool: ThreadPoolExecutor) -> WindowImages:
        """Read a window of the map, which may reach beyond it; the threads read a month each.

        Raises:
            DamagedFileError: A file can't be read.
        """
        shape = (window.height, window.width)
        images = {
            sensor.name: np.empty(
                (len(self.months), len(sensor.bands), *shape), sensor.packed_dtype
            )
            for sensor in SENSORS
        }

        def fill(index: int) -> None:
            for sensor in SENSORS:
                layers = self.months[index].of[sensor.name]
                images[sensor.name][index] = (
                    read_month(sensor, layers, self.grid, window) if layers else sensor.fill
                )

        for _ in pool.map(fill, range(len(self.months))):
            pass
        inside = np.zeros(shape, bool)
        part = clipped(window, *self.grid.shape)
        if part is not None:
            here = True if self.area is None else self.area.inside(self.grid, part)
            inside[slices_in(part, window)] = here
        return WindowImages(tuple(month.month for month in self.months), images, inside)

    def identity(self) -> list[Any]:
        """Which images the map is made of, for JSON."""
        return [
            (month.month, redact(layer.name), layer.bands)
            for month in self.months
            for _, layer in month.all()
        ]

    def file_facts(self) -> dict[str, list[int]]:
        """Size and time of change of each file, by name; nothing of what isn't a local file.

        They are written to the scratch folder, so addresses come without their secrets.
        """
        facts: dict[str, list[int]] = {}
        for month in self.months:
            for _, layer in month.all():
                try:
                    status = Path(layer.name).stat()
                    facts[redact(layer.name)] = [status.st_size, status.st_mtime_ns]
                except OSError:
                    facts[redact(layer.name)] = []
        return facts


def read_month(sensor: Sensor, layers: Sequence[Layer], grid: Grid, window: Window) -> NDArray[Any]:
    """A month's images of a sensor, its packed integers [bands, h, w]; without data its fill."""
    values = _merged(layers, file_bands(sensor.name), grid, window)
    if sensor.floor is not None:
        return sensor.pack(values)
    measured, counts = values[: len(sensor.measured)], values[: len(sensor.bands)]
    if sensor is S2:
        _apply_scene_classes(measured, counts[S2.bands.index(CLOUD_PROBABILITY)], values[-1])
    seen = (measured > 0).any(axis=0)  # NaN is not
    measured[:, ~seen] = 0
    for band, image in zip(sensor.table, counts, strict=True):
        if band.none is not None:
            image[~seen | np.isnan(image)] = band.none
    np.fmax(np.rint(counts, out=counts), 0, out=counts)  # NaN becomes 0, too
    most = np.iinfo(sensor.packed_dtype).max
    return np.minimum(counts, most, out=counts).astype(sensor.packed_dtype)


def _apply_scene_classes(optical: Values, clouds: Values, scene: Values) -> None:
    """Scene classes say what has no data, and stand in for missing cloud probabilities."""
    optical[:, np.isin(scene, SCENE_NODATA)] = np.nan
    unknown = np.isnan(clouds) & ~np.isnan(scene)
    clouds[unknown] = 0.0
    for number, percent in SCENE_CLOUDS_PERCENT.items():
        clouds[unknown & (scene == number)] = percent


def _merged(layers: Sequence[Layer], names: tuple[str, ...], grid: Grid, window: Window) -> Values:
    """Bands in the order of ``names``, float32 [bands, h, w]; NaN where no layer has data."""
    out = np.full((len(names), window.height, window.width), np.nan, np.float32)
    for layer in layers:
        for band, image in zip(layer.bands, read_aligned(layer, grid, window), strict=True):
            place = out[names.index(band)]
            np.copyto(place, image, where=np.isnan(place))
    return out


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
    stated = state_area(area)
    months = _read_months(place, images, stated)
    # Sentinel-2's pixels first: where nothing else is asked for, the map gets theirs.
    layers = [
        layer
        for month in months
        for _, layer in sorted(month.all(), key=lambda found: found[0] != S2.name)
    ]
    # Millions of corners are moved once a coordinate system.
    within = None if stated is None else lru_cache(stated.within)
    grid = settle_grid(
        [layer.grid for layer in layers],
        images,
        None if within is None else lambda crs: within(crs).bounds,
        place,
    )
    wanted = None if within is None else within(grid.crs)
    if wanted is not None and wanted.is_empty(grid):
        raise BadInputError(
            f"The area holds no pixel's centre of the images in {place}: check mapping.area for "
            f"polygons that lie elsewhere or are smaller than a pixel of {images.pixel_size_m:g} m."
        )
    months = _overlapping(months, grid, place)
    if images.check_ranges:
        for month in months:
            for sensor, layer in month.all():
                if not isinstance(layer, SceneComposite):  # looked at when it was put together
                    _check_ranges(layer, sensor)
    return RegionSource(place, grid, tuple(months), wanted, _is_simulated(place, layers))


def _read_months(place: str, images: ImageOptions, area: StatedArea | None) -> list[MonthLayers]:
    if place.endswith((".json", ".geojson")):
        return read_item_collection(place, images, area)
    if is_cube(place):
        return read_cube(place)
    if not Path(place).is_dir():
        raise BadInputError(
            f"There are no images at {place}: give a folder, a STAC item collection or a Zarr "
            "cube with '--params region_root=PLACE', or run '--pipelines region_simulation' first."
        )
    return read_folder(Path(place), images)


def _overlapping(months: list[MonthLayers], grid: Grid, place: str) -> list[MonthLayers]:
    """The images that meet the map; those that don't are named in the log and left out."""

    def meets(layer: Layer) -> bool:
        there = layer.grid.window_of(grid.bounds_in(layer.grid.crs))
        if clipped(there, *layer.grid.shape) is not None:
            return True
        log.warning("%s does not overlap the area and is left out.", layer.name)
        return False

    kept = [
        MonthLayers(
            one.month, {name: tuple(filter(meets, found)) for name, found in one.of.items()}
        )
        for one in months
    ]
    kept = [one for one in kept if any(one.of.values())]
    if not kept:
        raise BadInputError(
            f"No image in {place} overlaps the area: check mapping.area and the coordinate systems."
        )
    return kept


def _is_simulated(place: str, layers: list[Layer]) -> bool:
    """Whether images were simulated here: a note lies beside them, or the first one's tag."""
    folders = {Path(place), *(Path(layer.name).parent for layer in layers)}
    return any((folder / NOTE).is_file() for folder in folders) or any(
        isinstance(layer, RasterLayer) and layer.says_simulated() for layer in layers[:1]
    )


def _check_ranges(layer: Layer, sensor: str) -> None:
    """Refuse an image in another unit or with swapped bands, by some places of it.

    Damage there is no matter here: it costs the blocks that need it.
    """
    rows, columns = (_places(size) for size in layer.grid.shape)
    found = []
    for top, height in rows:
        for left, width in columns:
            try:
                values = layer.read(Window(left, top, width, height))
            except DamagedFileError:
                continue
            found.append(values.reshape(len(layer.bands), -1))
    if not found:
        return
    values_of = dict(zip(layer.bands, np.concatenate(found, axis=1), strict=True))
    fault = image_unit_fault(sensor, values_of)
    if fault is not None:
        raise BadInputError(
            f"{layer.name} {fault.reason}: {fault.remedy}, state its bands in "
            f"mapping.images.{sensor}_bands, or set mapping.images.check_ranges to false."
        )


def _places(size: int) -> list[tuple[int, int]]:
    """Where along an axis pixels are read, and how many."""
    if size <= _PLACES * _PLACE_PIXELS:
        return [(0, size)]
    starts = np.linspace(0, size - _PLACE_PIXELS, _PLACES).astype(int)
    return [(int(start), _PLACE_PIXELS) for start in starts]
