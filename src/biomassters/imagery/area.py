"""The area of interest: a rectangle or the polygons of a file, in any coordinate system.

``polygon_files`` reads the files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window

from biomassters.errors import BadInputError
from biomassters.imagery.options import AreaOptions
from biomassters.imagery.pixel_grid import Bounds, Grid, bounds_between, clipped
from biomassters.imagery.polygon_files import MOST_DEGREES, Polygons, read_crs, read_polygons

_STRIP = 256  # rows


@dataclass(frozen=True)
class Area:
    """What is to be mapped, in the map's coordinates; without polygons the whole rectangle."""

    bounds: Bounds
    polygons: Polygons | None = None

    def is_empty(self, grid: Grid) -> bool:
        """Whether no pixel of a map has its centre in the area; a strip of rows at a time."""
        strips = (
            clipped(Window(0, top, grid.width, _STRIP), *grid.shape)
            for top in range(0, grid.height, _STRIP)
        )
        return not any(self.inside(grid, strip).any() for strip in strips)

    def inside(self, grid: Grid, window: Window) -> NDArray[np.bool_]:
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
        shape: West, south, east, north, or polygons.
        crs: Of either.
        name: Where it was stated, for messages.
    """

    shape: Bounds | Polygons
    crs: CRS
    name: str

    def within(self, crs: CRS) -> Area:
        """The area in the coordinates of a map.

        Raises:
            BadInputError: A polygon lies where these have no numbers.
        """
        if not isinstance(self.shape, Polygons):
            return Area(bounds_between(self.crs, crs, self.shape))
        try:
            here = self.shape.moved(self.crs, crs)
        except Exception as error:
            raise BadInputError(
                f"{self.name} holds a polygon that can't be drawn in {crs} ({error}): mend it, or "
                "choose mapping.images.crs."
            ) from error
        west, south = here.positions.min(axis=0).tolist()
        east, north = here.positions.max(axis=0).tolist()
        return Area((west, south, east, north), here)


def state_area(options: AreaOptions, parameter: str = "mapping.area") -> StatedArea | None:
    """The area that options name, or None where they name none.

    Args:
        options: Which.
        parameter: Where they stand, for messages.

    Raises:
        BadInputError: The file can't be read or holds no polygon, the coordinate system is
            unknown, or the area is empty or crosses the antimeridian.
    """
    if options.bounds is not None:
        crs = read_crs(options.bounds_crs, f"{parameter}.bounds_crs")
        name = f"{parameter}.bounds"
        _check_bounds(np.array([options.bounds]), crs, name)
        return StatedArea(options.bounds, crs, name)
    if options.file is None:
        return None
    found = read_polygons(Path(options.file))
    _check_bounds(found.extents, found.crs, options.file)
    return StatedArea(found.polygons, found.crs, options.file)


def _check_bounds(bounds: NDArray[np.float64], crs: CRS, what: str) -> None:
    """Whether each of [G, 4] is a rectangle, and in degrees one on this side of the globe."""
    west, south, east, north = bounds.T

    def first(faulty: NDArray[np.bool_]) -> list[float] | None:
        return bounds[faulty.argmax()].tolist() if faulty.any() else None

    if found := first(~np.isfinite(bounds).all(axis=1) | (south >= north)):
        raise BadInputError(f"{what}: expected west, south, east, north, got {found}.")
    if crs.is_geographic:
        if found := first(np.abs(bounds).max(axis=1) > MOST_DEGREES):
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
