"""The area of interest: a rectangle or the polygons of a file, in any coordinate system.

GDAL crashes at some GeoJSON, so every polygon is checked before it sees one; other formats are read
in ``vector_files``. A file may hold 200,000 polygons: as GeoJSON's lists they took 700 MB and 44 s,
so they become three arrays as soon as they are read.
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
from rasterio.windows import Window

from biomassters.errors import BadInputError
from biomassters.imagery.options import AreaOptions
from biomassters.imagery.pixel_grid import WORLD, Bounds, Grid, bounds_between, clipped
from biomassters.imagery.vector_files import SUFFIXES, RaggedPolygons, read_vector_file
from biomassters.io.files import read_json
from biomassters.io.gdal import parse_crs

Rings = list[NDArray[np.float64]]  # of one polygon, the outer one first; [N, 2] each
_POSITIONS = 100_000  # moved at once: GDAL gives them back as Python's numbers
_SHAPES = 500  # drawn at once, which makes lists of them
_STRIP = 256  # rows
_KINDS = ("Polygon", "MultiPolygon")
_WITHIN = {
    "Feature": "geometry",
    "FeatureCollection": "features",
    "GeometryCollection": "geometries",
}
_NUMBERS = {2, 3, 4}  # of a position: a height and a measure may follow
_FEWEST_POSITIONS = 4
_MOST_DEGREES = 360
_MOST_METRES = 1e9  # or feet: no projection of the Earth reaches further


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
        crs = _read_crs(options.bounds_crs, f"{parameter}.bounds_crs")
        name = f"{parameter}.bounds"
        _check_bounds(np.array([options.bounds]), crs, name)
        return StatedArea(options.bounds, crs, name)
    if options.file is None:
        return None
    polygons, extents, crs = read_polygons(Path(options.file))
    _check_bounds(extents, crs, options.file)
    return StatedArea(polygons, crs, options.file)


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


def read_polygons(path: Path) -> tuple[Polygons, NDArray[np.float64], CRS]:
    """Every polygon of a file: GeoJSON, GeoPackage, shapefile or KML.

    Returns:
        The polygons, those of a multipolygon apart; west, south, east, north of each geometry,
        a multipolygon as a whole, [G, 4]; and the coordinate system.

    Raises:
        BadInputError: The file can't be read, holds no polygon, one that is malformed or lies
            nowhere in its coordinate system, or names no system or one that is unknown.
    """
    if path.suffix.lower() in SUFFIXES:
        polygons, found, crs = _read_vectors(path)
        return polygons, found.extents, crs
    polygons, geometries, crs = _read_geojson(path)
    first = np.cumsum([0, *(len(one.polygons) for one in geometries[:-1])])
    lowest, highest = np.hsplit(polygons.bounds, 2)
    extents = [np.minimum.reduceat(lowest, first), np.maximum.reduceat(highest, first)]
    return polygons, np.hstack(extents), crs


def _read_vectors(path: Path, attribute: str | None = None) -> tuple[Polygons, RaggedPolygons, CRS]:
    """Polygons of another format than GeoJSON, what else its reader found, and their system."""
    found = read_vector_file(path, attribute)
    if found.crs is None:
        raise BadInputError(
            f"{path} doesn't say its coordinate system: copy the .prj file beside it, or save "
            "the polygons as GeoPackage."
        )
    polygons = Polygons(found.positions, found.rings, found.polygons)
    crs = _read_crs(found.crs, str(path))
    _check_reach(path, polygons, crs)
    return polygons, found, crs


def _check_reach(path: Path, polygons: Polygons, crs: CRS) -> None:
    farthest = np.abs(polygons.positions).max()
    if farthest > (_MOST_DEGREES if crs.is_geographic else _MOST_METRES):
        raise BadInputError(
            f"{path} holds a coordinate of {farthest:g}, which lies nowhere in its coordinate "
            "system: state it ('crs' in the GeoJSON file), or mend the polygon."
        )


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
    values: list[Any]
    if path.suffix.lower() in SUFFIXES:
        polygons, ragged, crs = _read_vectors(path, attribute)
        stated = ragged.values
        values = [None] * len(polygons.bounds) if stated is None else stated.tolist()
        if stated is not None and stated.dtype.kind == "f":  # where a number may be missing
            values = [None if np.isnan(value) else value for value in values]
    else:
        polygons, found, crs = _read_geojson(path, attribute)
        values = [one.value for one in found for _ in one.polygons]
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and _are_finite([value])):
            raise BadInputError(
                f"{path} holds a polygon whose attribute {attribute!r} is {value!r}, no "
                "number: mend it, or name another attribute."
            )
    return polygons, np.array([np.nan if one is None else one for one in values], np.float32), crs


def _read_geojson(
    path: Path, attribute: str | None = None
) -> tuple[Polygons, list["_Geometry"], CRS]:
    """The polygons of a file, its geometries, and the coordinate system; errors as above."""
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
    crs = _crs_of(content, path)
    _check_reach(path, polygons, crs)
    return polygons, found, crs


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
    return WORLD if name is None else _read_crs(str(name), str(path))


def _read_crs(text: str, what: str) -> CRS:
    crs = parse_crs(text, what)
    # GeoJSON's usual name of longitude and latitude.
    return WORLD if crs == CRS.from_user_input("OGC:CRS84") else crs
