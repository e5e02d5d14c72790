"""Polygons of files: GeoJSON, read here, and GeoPackages, shapefiles and KML, read by pyogrio.

GDAL crashes at some GeoJSON, so every polygon is checked before it sees one. A file may hold
200,000 polygons: as GeoJSON's lists they took 700 MB and 44 s, so they become three arrays as soon
as they are read. pyogrio brings its own GDAL, which opens whatever a file holds: a text named
``.gpkg`` may be a virtual layer that names other files or addresses. So a file is opened only if
its first bytes are those of what its name says.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain, pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform

from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import WORLD, Grid
from biomassters.io.files import IrregularFileError, irregular, read_json
from biomassters.io.gdal import parse_crs
from biomassters.messages import installation

Rings = list[NDArray[np.float64]]  # of one polygon, the outer one first; [N, 2] each
_POSITIONS = 100_000  # moved at once: GDAL gives them back as Python's numbers
_SHAPES = 500  # drawn at once, which makes lists of them
_KINDS = ("Polygon", "MultiPolygon")
_WITHIN = {
    "Feature": "geometry",
    "FeatureCollection": "features",
    "GeometryCollection": "geometries",
}
_NUMBERS = {2, 3, 4}  # of a position: a height and a measure may follow
_FEWEST_POSITIONS = 4
MOST_DEGREES = 360
_MOST_METRES = 1e9  # or feet: no projection of the Earth reaches further
_HEAD_BYTES = 4096
_BEGINNINGS = {".gpkg": b"SQLite format 3\0", ".shp": b"\x00\x00\x27\x0a", ".kml": b"<"}
SUFFIXES = (".geojson", ".json", *_BEGINNINGS)
_VIRTUAL = b"OGRVRT"  # what GDAL's virtual layers begin with, somewhere in the first kilobyte
_POLYGON_TYPES = (3, 6)  # shapely's numbers of polygons and multipolygons


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons that may overlap; each position x before y.

    Attributes:
        positions: float64 [N, 2], ring after ring.
        rings: int64 [R + 1], where each ring begins in ``positions``, and N.
        polygons: int64 [P + 1], where each polygon begins in ``rings``, and R.
    """

    positions: NDArray[np.float64]
    rings: NDArray[np.int64]
    polygons: NDArray[np.int64]

    @classmethod
    def of(cls, polygons: Sequence[Rings]) -> "Polygons":
        """From the rings of at least one polygon."""
        rings = list(chain.from_iterable(polygons))
        starts = (np.cumsum([0, *map(len, parts)]) for parts in (rings, polygons))
        return cls(np.concatenate(rings), *starts)

    @property
    def bounds(self) -> NDArray[np.float64]:
        """West, south, east, north of each, [P, 4]."""
        first = self.rings[self.polygons[:-1]]
        return np.hstack([end.reduceat(self.positions, first) for end in (np.minimum, np.maximum)])

    def moved(self, source: CRS, target: CRS) -> "Polygons":
        """The same in another coordinate system.

        Raises:
            Exception: GDAL's, which rasterio has no public name for: a position has no place there.
        """
        positions = np.empty_like(self.positions)
        for at in range(0, len(positions), _POSITIONS):
            x, y = self.positions[at : at + _POSITIONS].T.tolist()  # faster than arrays
            positions[at : at + _POSITIONS] = np.stack(transform(source, target, x, y), axis=1)
        return Polygons(positions, self.rings, self.polygons)

    def inside(self, part: Grid) -> NDArray[np.bool_]:
        """Pixels whose centre lies in at least one polygon, [h, w]."""
        numbers = self._near(part)
        found = np.zeros(part.shape, np.uint8)
        for at in range(0, len(numbers), _SHAPES):
            some = map(self._shape, numbers[at : at + _SHAPES])
            rasterize(some, out=found, transform=part.transform)
        return found.view(bool)

    def drawn(self, part: Grid, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The value of the last polygon that each pixel's centre lies in, [h, w]; NaN in none.

        Polygons whose value is NaN are left out.
        """
        numbers = self._near(part)
        numbers = numbers[np.isfinite(values[numbers])]
        found = np.full(part.shape, np.nan, np.float32)
        for at in range(0, len(numbers), _SHAPES):
            some = [
                (self._shape(number), float(values[number])) for number in numbers[at:][:_SHAPES]
            ]
            rasterize(some, out=found, transform=part.transform)
        return found

    def digest(self) -> str:
        """SHA-256 of all positions and of which belong together."""
        arrays = (self.positions, self.rings, self.polygons)
        return sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def _near(self, part: Grid) -> NDArray[np.int64]:
        """Polygons whose bounds meet a part's."""
        west, south, east, north = part.bounds
        lefts, bottoms, rights, tops = self.bounds.T
        near = (lefts <= east) & (rights >= west) & (bottoms <= north) & (tops >= south)
        return near.nonzero()[0]

    def _shape(self, number: int) -> dict[str, Any]:
        """One polygon as rasterio takes it."""
        first, end = self.polygons[number : number + 2]
        ends = self.rings[first : end + 1]
        rings = [self.positions[start:stop].tolist() for start, stop in pairwise(ends)]
        return {"type": "Polygon", "coordinates": rings}


@dataclass(frozen=True, eq=False)
class PolygonFile:
    """What a file holds.

    Attributes:
        polygons: All of them, those of a multipolygon apart.
        extents: float64 [G, 4], west, south, east, north of each geometry, a multipolygon as a
            whole.
        crs: Of both.
        values: [P], what each polygon's feature states of the attribute that was asked for; None:
            nothing.
    """

    polygons: Polygons
    extents: NDArray[np.float64]
    crs: CRS
    values: list[Any]


def read_polygons(path: Path, attribute: str | None = None) -> PolygonFile:
    """Every polygon of a file, with an attribute of its feature if one is named.

    Raises:
        BadInputError: The file can't be read, holds no polygon, one that is malformed or lies
            nowhere in its coordinate system, or names no system or one that is unknown.
    """
    read = _read_vectors if path.suffix.lower() in _BEGINNINGS else _read_geojson
    found = read(path, attribute)
    farthest = np.abs(found.polygons.positions).max()
    if farthest > (MOST_DEGREES if found.crs.is_geographic else _MOST_METRES):
        raise BadInputError(
            f"{path} holds a coordinate of {farthest:g}, which lies nowhere in its coordinate "
            "system: state it ('crs' in the GeoJSON file), or mend the polygon."
        )
    return found


def read_valued_polygons(path: Path, attribute: str) -> tuple[Polygons, NDArray[np.float32], CRS]:
    """Every polygon of a file, with a number that its feature states.

    Args:
        path: The file: GeoJSON, GeoPackage, shapefile or KML.
        attribute: Which property the number is; a feature whose property is null is left out.

    Returns:
        The polygons, float32 [P] their numbers, and the coordinate system.

    Raises:
        BadInputError: As ``read_polygons``, or a feature's property is no number.
    """
    found = read_polygons(path, attribute)
    for value in found.values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and _are_finite([value])):
            raise BadInputError(
                f"{path} holds a polygon whose attribute {attribute!r} is {value!r}, no "
                "number: mend it, or name another attribute."
            )
    numbers = [np.nan if one is None else one for one in found.values]
    return found.polygons, np.array(numbers, np.float32), found.crs


def _read_vectors(path: Path, attribute: str | None) -> PolygonFile:
    """The first layer that has any polygon of a GeoPackage, shapefile or KML."""
    _check_beginning(path)
    try:
        import pyogrio
        import shapely
    except ImportError:
        raise BadInputError(
            f"{path}: {path.suffix} files need pyogrio and shapely: install them with "
            f"{installation('imagery')}, or save the area as GeoJSON."
        ) from None
    try:
        for layer, kind in pyogrio.list_layers(path):
            if kind is None:  # a table without places
                continue
            columns = [] if attribute is None else [attribute]
            meta, _, wkb, fields = pyogrio.raw.read(
                path, layer=layer, columns=columns, force_2d=True
            )
            shapes = shapely.from_wkb(wkb)
            areas = np.isin(shapely.get_type_id(shapes), _POLYGON_TYPES)
            areas &= ~shapely.is_empty(shapes)
            shapes = shapes[areas]
            if len(shapes):
                break
        else:
            raise BadInputError(f"{path} holds no polygon: save the area as polygons.")
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise BadInputError(f"{path} can't be read ({reason}): save the area again.") from None
    parts, whose = shapely.get_parts(shapes, return_index=True)
    positions, (rings, polygons) = shapely.to_ragged_array(parts)[1:]
    if not np.isfinite(positions).all():
        raise BadInputError(f"{path} holds a coordinate that is no finite number: mend it.")
    if meta["crs"] is None:
        raise BadInputError(
            f"{path} doesn't say its coordinate system: copy the .prj file beside it, or save "
            "the polygons as GeoPackage."
        )
    values: list[Any] = [None] * len(parts)
    if len(fields):
        stated = fields[0][areas][whose]
        # Where a number may be missing, a column of whole numbers is one of floats.
        absent = np.isnan(stated) if stated.dtype.kind == "f" else np.zeros(len(stated), bool)
        values = [None if none else one for one, none in zip(stated.tolist(), absent, strict=True)]
    found = Polygons(
        np.ascontiguousarray(positions[:, :2], np.float64),
        rings.astype(np.int64),
        polygons.astype(np.int64),
    )
    return PolygonFile(found, shapely.bounds(shapes), read_crs(meta["crs"], str(path)), values)


def _check_beginning(path: Path) -> None:
    if (kind := irregular(path)) is not None:
        raise IrregularFileError(path, kind)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise BadInputError(
            f"{path} can't be read ({error.strerror}); give the area's file."
        ) from None
    begins = head.lstrip(b"\xef\xbb\xbf \r\n\t") if path.suffix.lower() == ".kml" else head
    wanted = _BEGINNINGS[path.suffix.lower()]
    is_kml = path.suffix.lower() != ".kml" or b"<kml" in head.lower()
    if not begins.startswith(wanted) or _VIRTUAL in head or not is_kml:
        raise BadInputError(
            f"{path} holds something else than its name says: save the area again, for instance "
            "from QGIS."
        )


def _read_geojson(path: Path, attribute: str | None) -> PolygonFile:
    hook = partial(_compact, attribute=attribute)
    # No search for cycles while millions of lists come and go: JSON has none, and it took 2 of 6 s.
    was_on = gc.isenabled()
    gc.disable()
    try:
        remedy = "give the area as GeoJSON, GeoPackage, shapefile or KML, for instance from QGIS"
        content = read_json(path, remedy, hook)
    finally:
        if was_on:
            gc.enable()
    found = _geometries(content)
    if not found:
        raise BadInputError(f"{path} holds no polygon: save them in GeoJSON.")
    fault = next((one.fault for one in found if one.fault is not None), None)
    if fault is not None:
        raise BadInputError(f"{path} holds {fault}: mend the polygon.")
    polygons = Polygons.of([rings for one in found for rings in one.polygons])
    # A geometry's first polygon; its extent is that of all of them.
    first = np.cumsum([0, *(len(one.polygons) for one in found[:-1])])
    lowest, highest = np.hsplit(polygons.bounds, 2)
    extents = [np.minimum.reduceat(lowest, first), np.maximum.reduceat(highest, first)]
    values = [one.value for one in found for _ in one.polygons]
    return PolygonFile(polygons, np.hstack(extents), _crs_of(content, path), values)


@dataclass(slots=True)
class _Geometry:
    """A polygon or multipolygon: its polygons, or what is wrong with it."""

    polygons: list[Rings]
    fault: str | None
    crs: Any  # that it states itself
    value: Any = None  # the attribute of its feature that was asked for


def _compact(one: dict[str, Any], attribute: str | None = None) -> Any:
    """What is needed of a JSON object, as soon as it is read: all lists at once take 500 MB.

    Faults are only noted: somebody's property may look like a polygon, and is never used.
    """
    kind, crs = one.get("type"), one.get("crs")
    if kind == "Feature":
        geometry, properties = one.get("geometry"), one.get("properties")
        if isinstance(geometry, _Geometry) and isinstance(properties, dict):
            geometry.value = properties.get(attribute)
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
    _require(widths <= _NUMBERS, "a position that is no pair of numbers")
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


def read_crs(text: str, what: str) -> CRS:
    """A coordinate system by its name; raises BadInputError for an unknown one."""
    crs = parse_crs(text, what)
    # GeoJSON's usual name of longitude and latitude.
    return WORLD if crs == CRS.from_user_input("OGC:CRS84") else crs
