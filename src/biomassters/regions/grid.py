"""Where pixels lie: a raster's grid, and windows of it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform_bounds

from biomassters.chips.ground import GroundPixels

Bounds = tuple[float, float, float, float]  # west, south, east, north
_SAME = 1e-3  # pixels


@dataclass(frozen=True)
class PixelWindow:
    """A rectangle of a raster; may reach beyond it."""

    top: int
    left: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def clipped(self, height: int, width: int) -> "PixelWindow":
        """The part within a raster of this size; may be empty."""
        top, left = (min(max(0, at), size) for at, size in ((self.top, height), (self.left, width)))
        bottom = min(max(top, self.top + self.height), height)
        right = min(max(left, self.left + self.width), width)
        return PixelWindow(top, left, bottom - top, right - left)

    def slices_in(self, outer: "PixelWindow") -> tuple[slice, slice]:
        """Rows and columns of this window in an array of the outer one."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.height), slice(left, left + self.width)


@dataclass(frozen=True)
class Grid:
    """Pixels of a raster on the ground.

    Attributes:
        crs: Coordinate system.
        transform: Pixel to map units.
        height: Rows.
        width: Columns.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    def __reduce__(self) -> tuple[Any, ...]:
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
        transform = tuple(self.transform)[:6]
        return GroundPixels(self.crs.to_wkt(), transform, self.height, self.width)

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in the grid's coordinates."""
        west, south, east, north = array_bounds(self.height, self.width, self.transform)
        return min(west, east), min(south, north), max(west, east), max(south, north)

    def bounds_in(self, crs: CRS) -> Bounds:
        """Bounds in another coordinate system."""
        return bounds_between(self.crs, crs, self.bounds)

    def part(self, window: PixelWindow) -> "Grid":
        """The grid of a window."""
        transform = self.transform @ Affine.translation(window.left, window.top)
        return Grid(self.crs, transform, window.height, window.width)

    def window_of(self, bounds: Bounds) -> PixelWindow:
        """Whole pixels that cover bounds in the grid's coordinates; may reach beyond it."""
        west, south, east, north = bounds
        corners = [~self.transform @ (x, y) for x in (west, east) for y in (south, north)]
        columns, rows = (np.array(axis) for axis in zip(*corners, strict=True))
        left, top = (int(np.floor(axis.min() + _SAME)) for axis in (columns, rows))
        right, bottom = (int(np.ceil(axis.max() - _SAME)) for axis in (columns, rows))
        return PixelWindow(top, left, bottom - top, right - left)

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


def bounds_between(source: CRS, target: CRS, bounds: Bounds) -> Bounds:
    """Bounds in another coordinate system, edges followed closely."""
    west, south, east, north = transform_bounds(source, target, *bounds, densify_pts=51)
    return west, south, east, north


def _grid_of(wkt: str, transform: tuple[float, ...], height: int, width: int) -> Grid:
    return Grid(CRS.from_wkt(wkt), Affine(*transform), height, width)
