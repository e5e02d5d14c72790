"""Where pixels lie: a raster's grid, and windows of it, which may reach beyond it.

Windows are rasterio's, of whole pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import WindowError
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window, intersection

from biomassters.chips.ground import GroundPixels

Bounds = tuple[float, float, float, float]  # west, south, east, north
WORLD = CRS.from_epsg(4326)
_SAME = 1e-3  # pixels


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


def bounds_around(several: Iterable[Bounds]) -> Bounds:
    """Bounds of all together."""
    west, south, east, north = zip(*several, strict=True)
    return min(west), min(south), max(east), max(north)


def utm_zone(degrees: Bounds) -> CRS:
    """The UTM zone of the middle of some bounds in degrees."""
    west, south, east, north = degrees
    zone = int((west + east) / 2 // 6) + 31
    return CRS.from_epsg((32600 if south + north >= 0 else 32700) + min(max(zone, 1), 60))


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
