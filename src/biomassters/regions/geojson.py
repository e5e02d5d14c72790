"""Polygons out of a GeoJSON file: GDAL crashes at some, so all are checked before it sees any."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from biomassters.errors import BadInputError
from biomassters.io.files import read_json
from biomassters.io.gdal import parse_crs
from biomassters.regions.polygons import Polygons, Rings

WORLD = CRS.from_epsg(4326)
_KINDS = ("Polygon", "MultiPolygon")
_WITHIN = {
    "Feature": "geometry",
    "FeatureCollection": "features",
    "GeometryCollection": "geometries",
}
_POSITION = {2, 3, 4}  # numbers: a height and a measure may follow
_FEWEST_POSITIONS = 4
_MOST_DEGREES = 360
_MOST_METRES = 1e9  # or feet: no projection of the Earth reaches further


def read_polygons(path: Path) -> tuple[Polygons, NDArray[np.float64], CRS]:
    """Every polygon of a file.

    Returns:
        The polygons, those of a multipolygon apart; west, south, east, north of each geometry,
        a multipolygon as a whole, [G, 4]; and the coordinate system.

    Raises:
        BadInputError: The file can't be read, holds no polygon, one that is malformed or lies
            nowhere in its coordinate system, or names a system that is unknown.
    """
    with _without_collections():
        content = read_json(path, "give the area as GeoJSON, for instance from QGIS", _compact)
    found = _geometries(content)
    if not found:
        raise BadInputError(f"{path} holds no polygon: save the area as polygons in GeoJSON.")
    fault = next((one.fault for one in found if one.fault is not None), None)
    if fault is not None:
        raise BadInputError(f"{path} holds {fault}: mend the polygon.")
    polygons = Polygons.of([rings for one in found for rings in one.polygons])
    crs = _crs_of(content, path)
    farthest = np.abs(polygons.positions).max()
    if farthest > (_MOST_DEGREES if crs.is_geographic else _MOST_METRES):
        raise BadInputError(
            f"{path} holds a coordinate of {farthest:g}, which lies nowhere in its coordinate "
            "system: state it ('crs' in the GeoJSON file), or mend the polygon."
        )
    return polygons, _extents(polygons, [len(one.polygons) for one in found]), crs


def _extents(polygons: Polygons, counts: list[int]) -> NDArray[np.float64]:
    """Bounds of the first polygons together, of the next ones, and so on."""
    lowest, highest = np.hsplit(polygons.bounds, 2)
    first = np.cumsum([0, *counts[:-1]])
    return np.hstack([np.minimum.reduceat(lowest, first), np.maximum.reduceat(highest, first)])


def read_crs(text: str, what: str) -> CRS:
    """A coordinate system by its name; ``what`` says in messages whose it is."""
    crs = parse_crs(text, what)
    # GeoJSON's usual name of longitude and latitude.
    return WORLD if crs == CRS.from_user_input("OGC:CRS84") else crs


@contextmanager
def _without_collections() -> Iterator[None]:
    """No search for cycles while millions of lists come and go: JSON has none, and 2 of 6 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(slots=True)
class _Geometry:
    """A polygon or multipolygon: its polygons, or what is wrong with it."""

    polygons: list[Rings]
    fault: str | None
    crs: Any  # that it states itself


def _compact(one: dict[str, Any]) -> Any:
    """What is needed of a JSON object, as soon as it is read: all lists at once take 500 MB.

    Faults are only noted: somebody's property may look like a polygon, and is never used.
    """
    kind, crs = one.get("type"), one.get("crs")
    if kind == "Feature":
        geometry = one.get("geometry")
        return geometry if crs is None else {"type": kind, "geometry": geometry, "crs": crs}
    if kind in _KINDS and one.get("coordinates"):
        parts = one["coordinates"]
        try:
            polygons = list(_polygons([parts] if kind == "Polygon" else parts))
        except ValueError as error:
            return _Geometry([], str(error), crs)
        return _Geometry(polygons, None, crs)
    return one


def _polygons(parts: Any) -> Iterator[Rings]:
    _require(isinstance(parts, list), "a polygon without a ring")
    for rings in parts:
        _require(isinstance(rings, list) and bool(rings), "a polygon without a ring")
        yield [_ring(ring) for ring in rings]


def _ring(ring: Any) -> NDArray[np.float64]:
    """Positions of a ring, [N, 2]; whole lists at a time, for a file may have millions."""
    _require(isinstance(ring, list), "a ring that is no list of positions")
    are_lists = set(map(type, ring)) <= {list}
    widths = set(map(len, ring)) if are_lists else {0}
    _require(widths <= _POSITION, "a position that is no pair of numbers")
    numbers = list(chain.from_iterable(ring))
    _require(set(map(type, numbers)) <= {int, float} and _are_finite(numbers),
             "a coordinate that is no finite number")  # fmt: skip
    _require(len(ring) >= _FEWEST_POSITIONS, "a ring of fewer than four positions")
    _require(ring[0] == ring[-1], "a ring that is not closed")
    if len(widths) > 1:
        return np.array([position[:2] for position in ring], np.float64)
    return np.array(numbers, np.float64).reshape(len(ring), -1)[:, :2]  # faster than from slices


def _are_finite(numbers: list[float]) -> bool:
    try:
        return all(map(isfinite, numbers))
    except OverflowError:  # an integer may have thousands of digits
        return False


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise ValueError(fault)


def _geometries(content: Any) -> list[_Geometry]:
    """Every polygon of a file; collections may be nested as deep as anybody likes."""
    found, waiting = [], [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, _Geometry):
            found.append(one)
        elif isinstance(one, dict):
            inner = one.get(_WITHIN.get(str(one.get("type")), ""))
            waiting += reversed(inner) if isinstance(inner, list) else [inner]
    return found


def _crs_of(content: Any, path: Path) -> CRS:
    """As the "crs" member of GeoJSON before RFC 7946 says; degrees, as the RFC has it, without."""
    crs = content.crs if isinstance(content, _Geometry) else content.get("crs")
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    return WORLD if name is None else read_crs(str(name), str(path))
