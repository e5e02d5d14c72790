"""The area of interest: a rectangle or polygons, in any coordinate system."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import bounds as geometry_bounds
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from biomassters.errors import BadInputError
from biomassters.regions.grid import Bounds, Grid, PixelWindow, bounds_between
from biomassters.regions.options import AreaOptions

_WORLD = CRS.from_epsg(4326)
_MOST_DEGREES = 360
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
        if not _is_finite(polygon["coordinates"]):
            raise BadInputError(
                f"{options.geojson} holds a coordinate that is no finite number: mend the polygon."
            )
        _check_bounds(geometry_bounds(polygon), source, options.geojson)
    here = tuple(transform_geom(source, crs, polygon) for polygon in polygons)
    corners = np.array([geometry_bounds(polygon) for polygon in here])
    west, south = corners[:, :2].min(axis=0)
    east, north = corners[:, 2:].max(axis=0)
    return Area((float(west), float(south), float(east), float(north)), here)


def _is_finite(coordinates: Any) -> bool:
    if isinstance(coordinates, list):
        return all(map(_is_finite, coordinates))
    return isinstance(coordinates, int | float) and bool(np.isfinite(coordinates))


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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(
            f"mapping.area.geojson: {path} can't be read ({error.strerror}); give the path of a "
            "GeoJSON file."
        ) from None
    except ValueError:
        raise BadInputError(
            f"{path} is not JSON: save the area as GeoJSON, for instance from QGIS."
        ) from None
    polygons = [
        geometry
        for geometry in _geometries(content)
        if geometry["type"] in ("Polygon", "MultiPolygon")
    ]
    if not polygons:
        raise BadInputError(f"{path} holds no polygon: save the area as polygons in GeoJSON.")
    return polygons, _crs_of(content, path)


def _geometries(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, dict):
        return []
    kind = content.get("type")
    if kind == "FeatureCollection":
        return [found for one in content.get("features", []) for found in _geometries(one)]
    if kind == "Feature":
        return _geometries(content.get("geometry"))
    if kind == "GeometryCollection":
        return [found for one in content.get("geometries", []) for found in _geometries(one)]
    return [content] if content.get("coordinates") else []


def _crs_of(content: dict[str, Any], path: Path) -> CRS:
    """As the "crs" member of GeoJSON before RFC 7946 says; degrees, as the RFC has it, without."""
    name = (content.get("crs") or {}).get("properties", {}).get("name")
    return _WORLD if name is None else _crs(str(name), str(path))


def _crs(text: str, what: str) -> CRS:
    try:
        crs = CRS.from_user_input(text)
    except CRSError:
        raise BadInputError(
            f"{what}: {text} is no coordinate system; try one such as EPSG:3067."
        ) from None
    # GeoJSON's usual name of longitude and latitude.
    return _WORLD if crs == CRS.from_user_input("OGC:CRS84") else crs
