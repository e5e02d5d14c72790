"""The area of interest: a rectangle or polygons, in any coordinate system."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import bounds as geometry_bounds
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from biomassters.chips.crs import parse_crs
from biomassters.errors import BadInputError
from biomassters.regions.grid import Bounds, Grid, PixelWindow, bounds_between
from biomassters.regions.options import AreaOptions
from biomassters.regular_file import read_json

_WORLD = CRS.from_epsg(4326)
_MOST_DEGREES = 360
_MOST_METRES = 1e9  # or feet: no projection of the Earth reaches further
_MOST_NUMBER = 1e300
_FEWEST_POSITIONS = 4
_STRIP = 256  # rows


@dataclass(frozen=True)
class Area:
    """What is to be mapped, in the map's coordinates.

    Attributes:
        bounds: West, south, east, north.
        polygons: GeoJSON geometries; empty: the whole rectangle.
    """

    bounds: Bounds
    polygons: tuple[dict[str, Any], ...] = ()

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
        if not self.polygons:
            return np.ones(part.shape, bool)
        return np.asarray(
            geometry_mask(list(self.polygons), part.shape, part.transform, invert=True)
        )


def read_area(options: AreaOptions, crs: CRS) -> Area | None:
    """The area that options name, or None where they name none.

    Args:
        options: A GeoJSON file or bounds.
        crs: Of the map.

    Raises:
        BadInputError: The file can't be read or holds no polygon, the coordinate system is
            unknown, or the area is empty or crosses the antimeridian.
    """
    if options.bounds is not None:
        source = _crs(options.bounds_crs, "mapping.area.bounds_crs")
        _check_bounds(options.bounds, source, "mapping.area.bounds")
        return Area(bounds_between(source, crs, options.bounds))
    if options.geojson is None:
        return None
    polygons, source = _read_geojson(Path(options.geojson))
    for polygon in polygons:
        _check_polygon(polygon, options.geojson, source)
        _check_bounds(geometry_bounds(polygon), source, options.geojson)
    here = tuple(transform_geom(source, crs, polygon) for polygon in polygons)
    corners = np.array([geometry_bounds(polygon) for polygon in here])
    west, south = corners[:, :2].min(axis=0)
    east, north = corners[:, 2:].max(axis=0)
    return Area((float(west), float(south), float(east), float(north)), here)


def _check_polygon(polygon: dict[str, Any], path: str, crs: CRS) -> None:
    """Closed rings of finite numbers in range: rasterio crashes at others."""
    parts = polygon["coordinates"]
    if polygon["type"] == "Polygon":
        parts = [parts]
    _require(isinstance(parts, list) and bool(parts), path, "a polygon without a ring")
    for rings in parts:
        _require(isinstance(rings, list) and bool(rings), path, "a polygon without a ring")
        for ring in rings:
            _check_ring(ring, path, crs)


def _check_ring(ring: Any, path: str, crs: CRS) -> None:
    _require(isinstance(ring, list), path, "a ring that is no list of positions")
    for position in ring:
        if not isinstance(position, list) or len(position) not in (2, 3, 4):
            raise BadInputError(f"{path} holds a position that is no pair of numbers: mend it.")
        _require(all(map(_is_finite, position)), path, "a coordinate that is no finite number")
    _require(len(ring) >= _FEWEST_POSITIONS, path, "a ring of fewer than four positions")
    _require(ring[0] == ring[-1], path, "a ring that is not closed")
    most = _MOST_DEGREES if crs.is_geographic else _MOST_METRES
    farthest = max(max(abs(x), abs(y)) for x, y, *_ in ring)
    if farthest > most:
        raise BadInputError(
            f"{path} holds a coordinate of {farthest:g}, which lies nowhere in its coordinate "
            "system: state it ('crs' in the GeoJSON file), or mend the polygon."
        )


def _require(holds: bool, path: str, fault: str) -> None:
    if not holds:
        raise BadInputError(f"{path} holds {fault}: mend the polygon.")


def _is_finite(number: Any) -> bool:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return is_number and abs(number) <= _MOST_NUMBER  # an integer may have thousands of digits


def _check_bounds(bounds: Bounds, crs: CRS, what: str) -> None:
    west, south, east, north = bounds
    if not all(np.isfinite(bounds)) or south >= north:
        raise BadInputError(f"{what}: expected west, south, east, north, got {list(bounds)}.")
    if crs.is_geographic and max(map(abs, bounds)) > _MOST_DEGREES:
        raise BadInputError(
            f"{what} holds {list(bounds)}, which are no degrees: state its coordinate system "
            "('crs' in the GeoJSON file, mapping.area.bounds_crs for bounds)."
        )
    crosses = crs.is_geographic and (west < -180 or east > 180 or east - west > 180)
    if (west >= east and crs.is_geographic) or crosses:
        raise BadInputError(
            f"{what} crosses the antimeridian ({west:g} to {east:g} degrees east): map the two "
            "sides one after the other."
        )
    if west >= east:
        raise BadInputError(f"{what}: expected west, south, east, north, got {list(bounds)}.")


def _read_geojson(path: Path) -> tuple[list[dict[str, Any]], CRS]:
    content = read_json(path, "give the area as GeoJSON, for instance from QGIS")
    polygons = [
        geometry
        for geometry in _geometries(content)
        if geometry.get("type") in ("Polygon", "MultiPolygon")
    ]
    if not polygons:
        raise BadInputError(f"{path} holds no polygon: save the area as polygons in GeoJSON.")
    return polygons, _crs_of(content, path)


def _geometries(content: Any) -> list[dict[str, Any]]:
    """Every geometry in a file; collections may be nested as deep as anybody likes."""
    found, waiting = [], [content]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict):
            continue
        kind = one.get("type")
        if kind == "Feature":
            waiting.append(one.get("geometry"))
        elif kind in ("FeatureCollection", "GeometryCollection"):
            inner = one.get("features" if kind == "FeatureCollection" else "geometries")
            waiting += reversed(inner) if isinstance(inner, list) else []
        elif one.get("coordinates"):
            found.append(one)
    return found


def _crs_of(content: dict[str, Any], path: Path) -> CRS:
    """As the "crs" member of GeoJSON before RFC 7946 says; degrees, as the RFC has it, without."""
    crs = content.get("crs")
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    return _WORLD if name is None else _crs(str(name), str(path))


def _crs(text: str, what: str) -> CRS:
    crs = parse_crs(text, what)
    # GeoJSON's usual name of longitude and latitude.
    return _WORLD if crs == CRS.from_user_input("OGC:CRS84") else crs
