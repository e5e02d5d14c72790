"""The area of interest: a rectangle or polygons, in any coordinate system."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from biomassters.errors import BadInputError
from biomassters.regions.geojson import read_crs, read_polygons
from biomassters.regions.grid import Bounds, Grid, PixelWindow, bounds_between
from biomassters.regions.options import AreaOptions
from biomassters.regions.polygons import Polygons

_MOST_DEGREES = 360
_STRIP = 256  # rows


@dataclass(frozen=True)
class Area:
    """What is to be mapped, in the map's coordinates.

    Attributes:
        bounds: West, south, east, north.
        polygons: None: the whole rectangle.
    """

    bounds: Bounds
    polygons: Polygons | None = None

    def is_empty(self, grid: Grid) -> bool:
        """Whether no pixel of a map has its centre in the area; a strip of rows at a time."""
        strips = (
            PixelWindow(top, 0, _STRIP, grid.width).clipped(*grid.shape)
            for top in range(0, grid.height, _STRIP)
        )
        return not any(self.inside(grid, strip).any() for strip in strips)

    def inside(self, grid: Grid, window: PixelWindow) -> NDArray[np.bool_]:
        """Pixels of a window of the map whose centre lies in the area, [h, w]."""
        part = grid.part(window)
        return np.ones(part.shape, bool) if self.polygons is None else self.polygons.inside(part)

    def identity(self) -> list[Any]:
        """Which area it is, for JSON."""
        return [self.bounds, [] if self.polygons is None else self.polygons.digest()]


@dataclass(frozen=True)
class StatedArea:
    """An area as its file or bounds have it; a file is read once, whatever maps are tried.

    Attributes:
        bounds: West, south, east, north; None where there are polygons.
        polygons: None where there are bounds.
        crs: Of either.
        name: Where it was stated, for messages.
    """

    bounds: Bounds | None
    polygons: Polygons | None
    crs: CRS
    name: str

    def within(self, crs: CRS) -> Area:
        """The area in the coordinates of a map.

        Raises:
            BadInputError: A polygon lies where these have no numbers.
        """
        if self.polygons is None:
            assert self.bounds is not None
            return Area(bounds_between(self.crs, crs, self.bounds))
        try:
            here = self.polygons.moved(self.crs, crs)
        except Exception as error:
            raise BadInputError(
                f"{self.name} holds a polygon that can't be drawn in {crs} ({error}): mend it, or "
                "choose mapping.images.crs."
            ) from error
        west, south = here.positions.min(axis=0)
        east, north = here.positions.max(axis=0)
        return Area((float(west), float(south), float(east), float(north)), here)


def state_area(options: AreaOptions) -> StatedArea | None:
    """The area that options name, or None where they name none.

    Args:
        options: A GeoJSON file or bounds.

    Raises:
        BadInputError: The file can't be read or holds no polygon, the coordinate system is
            unknown, or the area is empty or crosses the antimeridian.
    """
    if options.bounds is not None:
        crs, name = read_crs(options.bounds_crs, "mapping.area.bounds_crs"), "mapping.area.bounds"
        _check_bounds(np.array([options.bounds]), crs, name)
        return StatedArea(options.bounds, None, crs, name)
    if options.geojson is None:
        return None
    polygons, extents, crs = read_polygons(Path(options.geojson))
    _check_bounds(extents, crs, options.geojson)
    return StatedArea(None, polygons, crs, options.geojson)


def read_area(options: AreaOptions, crs: CRS) -> Area | None:
    """The area that options name, in a map's coordinates; see ``state_area``."""
    stated = state_area(options)
    return None if stated is None else stated.within(crs)


def _check_bounds(bounds: NDArray[np.float64], crs: CRS, what: str) -> None:
    """Whether each of [G, 4] is a rectangle, and in degrees one on this side of the globe."""
    west, south, east, north = bounds.T

    def first(faulty: NDArray[np.bool_]) -> list[float] | None:
        return bounds[faulty.argmax()].tolist() if faulty.any() else None

    if found := first(~np.isfinite(bounds).all(axis=1) | (south >= north)):
        raise BadInputError(f"{what}: expected west, south, east, north, got {found}.")
    if crs.is_geographic:
        if found := first(np.abs(bounds).max(axis=1) > _MOST_DEGREES):
            raise BadInputError(
                f"{what} holds {found}, which are no degrees: state its coordinate system "
                "('crs' in the GeoJSON file, mapping.area.bounds_crs for bounds)."
            )
        if found := first((west >= east) | (west < -180) | (east > 180) | (east - west > 180)):
            raise BadInputError(
                f"{what} crosses the antimeridian ({found[0]:g} to {found[2]:g} degrees east): "
                "map the two sides one after the other."
            )
    if found := first(west >= east):
        raise BadInputError(f"{what}: expected west, south, east, north, got {found}.")
