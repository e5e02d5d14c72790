"""Where pixels lie: a raster's grid, windows of it, and the grid that a map gets.

Windows are rasterio's, of whole pixels, and may reach beyond their raster. ``settle_grid`` finds
pixels that are on the ground what the network takes them for.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import WindowError
from rasterio.transform import Affine, array_bounds
from rasterio.warp import calculate_default_transform, transform, transform_bounds
from rasterio.windows import Window, intersection

from biomassters.chips.ground import GroundPixels
from biomassters.errors import BadInputError
from biomassters.io.gdal import parse_crs
from biomassters.regions.options import ImageOptions

log = logging.getLogger(__name__)
Bounds = tuple[float, float, float, float]  # west, south, east, north
WORLD = CRS.from_epsg(4326)
_SAME = 1e-3  # pixels
_GROUND_TOLERANCE = 0.01  # of a pixel's side, at the map's corners and in its middle


def clipped(window: Window, height: int, width: int) -> Window | None:
    """The part of a window within a raster of this size, or None."""
    try:
        return intersection(window, Window(0, 0, width, height))
    except WindowError:
        return None


def slices_in(window: Window, outer: Window) -> tuple[slice, slice]:
    """Rows and columns of a window in an array of an outer one."""
    top, left = window.row_off - outer.row_off, window.col_off - outer.col_off
    return slice(top, top + window.height), slice(left, left + window.width)


def bounds_between(source: CRS, target: CRS, bounds: Bounds) -> Bounds:
    """Bounds in another coordinate system, edges followed closely."""
    west, south, east, north = transform_bounds(source, target, *bounds, densify_pts=51)
    return west, south, east, north


@dataclass(frozen=True)
class Grid:
    """Pixels of a raster on the ground; ``transform`` takes pixels to map units."""

    crs: CRS
    transform: Affine
    height: int
    width: int

    def __reduce__(self) -> tuple[Any, ...]:
        # GDAL's own objects can't be pickled.
        return _grid_of, (self.crs.to_wkt(), tuple(self.transform)[:6], self.height, self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def pixel_size(self) -> float:
        """Side of a pixel in units of the coordinate system."""
        return float(np.sqrt(abs(self.transform.determinant)))

    @cached_property
    def ground(self) -> GroundPixels:
        """The pixels as they are on the ground."""
        coefficients = tuple(self.transform)[:6]
        return GroundPixels(self.crs.to_wkt(), coefficients, self.height, self.width)

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in the grid's coordinates."""
        west, south, east, north = array_bounds(self.height, self.width, self.transform)
        return min(west, east), min(south, north), max(west, east), max(south, north)

    def bounds_in(self, crs: CRS) -> Bounds:
        """Bounds in another coordinate system."""
        return bounds_between(self.crs, crs, self.bounds)

    def part(self, window: Window) -> "Grid":
        """The grid of a window."""
        moved = self.transform @ Affine.translation(window.col_off, window.row_off)
        return Grid(self.crs, moved, window.height, window.width)

    def resized(self, height: int, width: int) -> "Grid":
        """The same ground in another number of pixels."""
        scale = Affine.scale(self.width / width, self.height / height)
        return Grid(self.crs, self.transform @ scale, height, width)

    def window_of(self, bounds: Bounds) -> Window:
        """Whole pixels that cover bounds in the grid's coordinates; may reach beyond it."""
        west, south, east, north = bounds
        corners = [~self.transform @ (x, y) for x in (west, east) for y in (south, north)]
        columns, rows = (np.array(axis) for axis in zip(*corners, strict=True))
        left, top = (int(np.floor(axis.min() + _SAME)) for axis in (columns, rows))
        right, bottom = (int(np.ceil(axis.max() - _SAME)) for axis in (columns, rows))
        return Window(left, top, right - left, bottom - top)

    def degrees(self, places: Iterable[tuple[float, float]]) -> list[list[float]]:
        """Longitude and latitude of places in pixels, x before y."""
        there = [self.transform @ place for place in places]
        east, north = transform(self.crs, WORLD, *zip(*there, strict=True))
        return [[float(x), float(y)] for x, y in zip(east, north, strict=True)]

    def offset_in(self, other: "Grid") -> tuple[int, int] | None:
        """Row and column of this grid's corner in another one of the same pixels, or None."""
        if self.crs != other.crs:
            return None
        step = ~other.transform @ self.transform
        row, column = round(step.f), round(step.c)
        size = max(self.height, self.width)
        same = (
            max(abs(step.a - 1), abs(step.e - 1), abs(step.b), abs(step.d)) * size < _SAME * 100
            and abs(step.f - row) < _SAME * 10
            and abs(step.c - column) < _SAME * 10
        )
        return (row, column) if same else None


def _grid_of(wkt: str, coefficients: tuple[float, ...], height: int, width: int) -> Grid:
    return Grid(CRS.from_wkt(wkt), Affine(*coefficients), height, width)


def settle_grid(
    images: Sequence[Grid],
    options: ImageOptions,
    area_in: Callable[[CRS], Bounds] | None,
    place: str,
) -> Grid:
    """The first grid whose pixels measure ``pixel_size_m`` on the ground, to 1 %.

    Tried in this order: the first image's own pixels, others in its coordinate system, those of
    the UTM zone. Where the user chose the coordinate system, no other one is tried.

    Args:
        images: Of all images; the first one counts.
        options: Coordinate system and size of the pixels.
        area_in: Bounds of what is mapped in a coordinate system; None: everything.
        place: Where the images lie, for messages.

    Raises:
        BadInputError: No such grid, a coordinate system that can't be, or no image in the area.
    """
    size, tried = options.pixel_size_m, ""
    last: CRS | None = None
    for grid in _candidates(images, options, area_in):
        if area_in is not None:
            grid = _cut(grid, area_in(grid.crs), place)
        sides = grid.ground.sides_m()
        wrong = np.abs(sides / size - 1)
        if wrong.max() <= _GROUND_TOLERANCE:
            if last is not None and last != grid.crs:
                log.warning("Pixels of %s; the map lies in %s instead.", tried, grid.crs)
            return grid
        worst = sides.flat[wrong.argmax()]
        last = grid.crs
        tried = f"{size:g} units in {last} measure {worst:.2f} m on the ground"
    if options.crs is not None:
        raise BadInputError(
            f"mapping.images.crs: pixels of {tried}, and the network takes them "
            f"for {size:g} m; choose a coordinate system such as {_utm_zone(images, area_in)}, or "
            "null."
        )
    raise BadInputError(
        f"Pixels of {tried}: {place} reaches too far for one map of {size:g} m "
        "pixels; map it in parts (mapping.area), or choose mapping.images.crs."
    )


def _candidates(
    images: Sequence[Grid], options: ImageOptions, area_in: Callable[[CRS], Bounds] | None
) -> Iterator[Grid]:
    """Pixels over all images."""
    first, size = images[0], options.pixel_size_m
    crs = first.crs if options.crs is None else parse_crs(options.crs, "mapping.images.crs")
    if options.crs is not None and not crs.is_projected:
        raise BadInputError(
            f"mapping.images.crs: {options.crs} is in degrees; choose one in metres, such as "
            "EPSG:3067."
        )
    upright = first.transform.b == first.transform.d == 0 and first.transform.e < 0
    if first.crs == crs and upright and abs(first.pixel_size / size - 1) < 1e-6:
        alike = [grid.bounds for grid in images if grid.offset_in(first) is not None]
        yield first.part(first.window_of(_around(alike)))
    if crs.is_projected:
        yield _new_grid(images, crs, size)
    if options.crs is None:
        yield _new_grid(images, _utm_zone(images, area_in), size)


def _new_grid(images: Sequence[Grid], crs: CRS, size: float) -> Grid:
    bounds = np.array(_around(grid.bounds_in(crs) for grid in images))
    west, south = np.floor(bounds[:2] / size) * size
    east, north = np.ceil(bounds[2:] / size) * size
    fitted, width, height = calculate_default_transform(
        crs, crs, round((east - west) / size), round((north - south) / size),
        west, south, east, north, resolution=size,
    )  # fmt: skip
    return Grid(crs, fitted, height, width)


def _cut(grid: Grid, wanted: Bounds, place: str) -> Grid:
    window = clipped(grid.window_of(wanted), *grid.shape)
    if window is None:
        degrees = ", ".join(f"{value:.4f}" for value in grid.bounds_in(WORLD))
        raise BadInputError(
            f"The images in {place} do not overlap the area: they cover {degrees} "
            "(west, south, east, north in degrees); check mapping.area."
        )
    return grid.part(window)


def _utm_zone(images: Sequence[Grid], area_in: Callable[[CRS], Bounds] | None) -> CRS:
    """The zone of the middle of what is mapped."""
    west, south, east, north = _around(grid.bounds_in(WORLD) for grid in images)
    if area_in is not None:
        wanted = area_in(WORLD)
        west, south = max(west, wanted[0]), max(south, wanted[1])
        east, north = min(east, wanted[2]), min(north, wanted[3])
    zone = int((west + east) / 2 // 6) + 31
    return CRS.from_epsg((32600 if south + north >= 0 else 32700) + min(max(zone, 1), 60))


def _around(several: Iterable[Bounds]) -> Bounds:
    """Bounds of all together."""
    west, south, east, north = zip(*several, strict=True)
    return min(west), min(south), max(east), max(north)
