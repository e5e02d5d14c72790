"""Polygons of GeoPackages, shapefiles and KML, read by pyogrio; GeoJSON has a reader in ``area``.

pyogrio brings its own GDAL, which opens whatever a file holds: a text named ``.gpkg`` may be a
virtual layer that names other files or addresses. So a file is opened only if its first bytes are
those of what its name says.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biomassters.errors import BadInputError
from biomassters.io.files import IrregularFileError, irregular

_HEAD_BYTES = 4096
_BEGINNINGS = {".gpkg": b"SQLite format 3\0", ".shp": b"\x00\x00\x27\x0a", ".kml": b"<"}
SUFFIXES = tuple(_BEGINNINGS)
_VIRTUAL = b"OGRVRT"  # what GDAL's virtual layers begin with, somewhere in the first kilobyte
_POLYGON_TYPES = (3, 6)  # shapely's numbers of polygons and multipolygons


class RaggedPolygons(NamedTuple):
    """Polygons one after another, and where they lie.

    Attributes:
        positions: float64 [N, 2], ring after ring, x before y.
        rings: int64 [R + 1], where each ring begins in ``positions``, and N.
        polygons: int64 [P + 1], where each polygon begins in ``rings``, and R.
        extents: float64 [G, 4], west, south, east, north of each geometry.
        crs: As text; None where the file says nothing.
        values: [P], the attribute that was asked for, of each polygon's feature; None where there
            is none.
    """

    positions: NDArray[np.float64]
    rings: NDArray[np.int64]
    polygons: NDArray[np.int64]
    extents: NDArray[np.float64]
    crs: str | None
    values: NDArray[Any] | None


def read_vector_file(path: Path, attribute: str | None = None) -> RaggedPolygons:
    """Every polygon of all layers' first one that has any, with an attribute if one is named.

    Raises:
        BadInputError: The file can't be read, is no such file, or holds no valid polygon.
    """
    _check_beginning(path)
    try:
        import pyogrio
        import shapely
    except ImportError:
        raise BadInputError(
            f"{path}: {path.suffix} files need pyogrio and shapely: install them with 'uv sync "
            "--extra imagery', or save the area as GeoJSON."
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
    return RaggedPolygons(
        np.ascontiguousarray(positions[:, :2], np.float64),
        rings.astype(np.int64),
        polygons.astype(np.int64),
        shapely.bounds(shapes),
        meta["crs"],
        fields[0][areas][whose] if len(fields) else None,
    )


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
