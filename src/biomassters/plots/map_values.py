"""A map's values under plots and within polygons, each pixel by the area that it shares with them.

The map is read once, window by window, whatever its size; ``exactextract`` says how much of each
pixel a polygon covers. A plot's footprint is a polygon like any other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from biomassters.chips.ground import GroundPixels
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.io.gdal import gdal_environment, open_raster

Floats = NDArray[np.float64]
_WINDOW = 1024  # pixels
_CACHE_BYTES = 256 * 2**20  # a row of windows of a map in strips, 20,000 pixels wide
_CORNERS = 32  # of a footprint
_MOST_CELLS = 2**21  # shares of pixels in memory at once; polygons may overlap


@dataclass(frozen=True)
class Layers:
    """What is summed of a map.

    Attributes:
        bands: That it is made of; a pixel without a value in the first has none.
        of: Layers [L, n] of the values of n pixels in these bands, [B, n].
    """

    bands: tuple[int, ...]
    of: Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ZonalSums:
    """Of each polygon.

    Attributes:
        hectares: float64 [n], its area that the map has values in, on the ground.
        cover: float64 [n], the share of it that this is.
        sums: float64 [n, layers], of value x hectare.
    """

    hectares: Floats
    cover: Floats
    sums: Floats

    @property
    def means(self) -> Floats:
        """float64 [n, layers]; NaN where the map has no value."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Floats = self.sums / self.hectares[:, None]
        return means


@contextmanager
def opened_map(path: Path) -> Iterator[Any]:
    """A GeoTIFF of AGB, anybody's.

    Raises:
        BadInputError: It can't be read, or doesn't say where it lies.
    """
    try:
        with gdal_environment(GDAL_CACHEMAX=_CACHE_BYTES), open_raster(path) as file:
            transform = file.transform
            if file.crs is None or transform.is_identity:
                raise BadInputError(
                    f"{path} doesn't say where it lies: give a georeferenced GeoTIFF."
                )
            if transform.b or transform.d or transform.e >= 0:
                raise BadInputError(f"{path} is rotated or upside down: warp it (gdalwarp).")
            yield file
    except (RasterioError, OSError) as error:
        raise BadInputError(f"{path} can't be read as a GeoTIFF ({error}): check it.") from None


def read_band(file: Any, band: int, window: Window) -> NDArray[np.float32]:
    """Values of a window; NaN where there are none, scale and offset applied, [h, w]."""
    values = file.read(band, window=window, masked=True)
    scaled = values.filled(0).astype(np.float32)
    if (file.scales[band - 1], file.offsets[band - 1]) != (1.0, 0.0):
        scaled = scaled * file.scales[band - 1] + file.offsets[band - 1]
    scaled[np.ma.getmaskarray(values)] = np.nan
    return scaled


def zonal_sums(
    file: Any, layers: Layers, polygons: NDArray[Any], what: str, *, progress: bool = True
) -> ZonalSums:
    """Sums of a map within polygons in its coordinates, which may overlap; parts outside count 0.

    Args:
        file: The open map.
        layers: What is summed.
        polygons: object [n], shapely's.
        what: For the progress bar.
        progress: Show one.
    """
    import geopandas
    import shapely
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    wkt, transform = file.crs.to_wkt(), file.transform
    ground = GroundPixels(wkt, tuple(transform)[:6], file.height, file.width)
    tree = shapely.STRtree(polygons)
    work = []
    for window in map_windows(file):
        west, north = transform @ (window.col_off, window.row_off)
        east, south = transform @ (window.col_off + window.width, window.row_off + window.height)
        inside = tree.query(shapely.box(west, south, east, north), predicate="intersects")
        if inside.size:
            work.append((window, (west, south, east, north), np.sort(inside)))
    pixel = abs(transform.determinant)
    found: Floats | None = None  # by polygon: pixels, hectares, value x hectare of each layer
    for window, bounds, inside in tracked(work, what, shown=progress):
        values = np.stack([read_band(file, band, window) for band in layers.bands])
        values = values.reshape(len(layers.bands), -1)
        areas = ground.areas_ha(window.row_off, window.col_off, window.height, window.width).ravel()
        # The source's own values don't matter: it is asked for cells and their covered shares.
        source = NumPyRasterSource(
            np.zeros((window.height, window.width), np.uint8), *bounds, srs_wkt=wkt
        )
        expected = np.minimum(shapely.area(polygons[inside]) / pixel, areas.size)
        ends = np.flatnonzero(np.diff(np.cumsum(expected) // _MOST_CELLS)) + 1
        for some in np.split(inside, ends):
            frame = geopandas.GeoDataFrame(geometry=polygons[some], crs=wkt)
            shares = exact_extract(source, frame, ["cell_id", "coverage"], output="pandas")
            counts = shares["cell_id"].map(len).to_numpy()
            if not counts.any():
                continue
            cells = np.concatenate(shares["cell_id"].to_list())
            coverage = np.concatenate(shares["coverage"].to_list())
            at_cells = values[:, cells]
            missing = np.isnan(at_cells[0])
            coverage[missing], at_cells[:, missing] = 0.0, 0.0
            weight = coverage * areas[cells]
            parts = np.concatenate([coverage[None], weight[None], layers.of(at_cells) * weight])
            # Of a polygon without a cell, reduceat would take the next one's.
            some, counts = some[counts > 0], counts[counts > 0]
            starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
            if found is None:
                found = np.zeros((len(polygons), len(parts)))
            found[some] += np.add.reduceat(parts, starts, axis=1).T
    if found is None:
        found = np.zeros((len(polygons), 3))
    whole = shapely.area(polygons) / pixel
    cover = np.divide(found[:, 0], whole, out=np.zeros(len(polygons)), where=whole > 0)
    return ZonalSums(found[:, 1], np.minimum(cover, 1.0), found[:, 2:])


def agb_and_classes(band: int, edges: tuple[float, ...]) -> Layers:
    """Layers of AGB, and of 1 in each class between edges, for means and shares."""

    def of(values: NDArray[np.float32]) -> NDArray[np.float32]:
        agb = values[0]
        classes = np.searchsorted(np.array(edges, np.float32), agb)
        numbers = np.arange(len(edges) + 1)[:, None]
        return np.concatenate([agb[None], (classes == numbers).astype(np.float32)])

    return Layers((band,), of)


def footprints(x: Floats, y: Floats, plot_area_m2: Floats, crs: CRS, target: CRS) -> NDArray[Any]:
    """Circles of the plots' areas on the ground, as polygons in a map's coordinates, object [n].

    Geodesics of the plot's radius in 32 directions (Karney 2013), so that any coordinate system
    serves. The radius is enlarged for the polygon to have the circle's area.

    Raises:
        BadInputError: A plot lies where one of the coordinate systems has no place.
    """
    import shapely

    east, north = _transformed(x, y, crs, CRS.from_epsg(4326))
    enlarged = 2 * np.pi / (_CORNERS * np.sin(2 * np.pi / _CORNERS))
    radius = np.sqrt(plot_area_m2 / np.pi * enlarged)
    azimuths = np.arange(_CORNERS) * 360 / _CORNERS
    shape = (len(x), _CORNERS)
    corner_x, corner_y, _ = Geod(ellps="WGS84").fwd(
        np.repeat(east, _CORNERS), np.repeat(north, _CORNERS), np.tile(azimuths, len(x)),
        np.repeat(radius, _CORNERS),
    )  # fmt: skip
    corners = _transformed(np.asarray(corner_x), np.asarray(corner_y), CRS.from_epsg(4326), target)
    found: NDArray[Any] = shapely.polygons(np.stack(corners, axis=-1).reshape(*shape, 2))
    return found


def jittered(
    x: Floats, y: Floats, crs: CRS, deviation_m: float, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Places moved at random by so many metres on the ground, east and north each."""
    world = CRS.from_epsg(4326)
    east, north = _transformed(x, y, crs, world)
    steps = generator.normal(0, deviation_m, (2, len(x)))
    azimuth = np.degrees(np.arctan2(*steps))
    east, north, _ = Geod(ellps="WGS84").fwd(east, north, azimuth, np.hypot(*steps))
    return _transformed(np.asarray(east), np.asarray(north), world, crs)


def moved_polygons(polygons: NDArray[Any], crs: CRS, target: CRS, name: str) -> NDArray[Any]:
    """Polygons in another coordinate system, mended where their rings cross.

    Raises:
        BadInputError: One is no polygon, or lies where the other has no place.
    """
    import shapely

    kinds = {shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON}
    if not set(shapely.get_type_id(polygons)) <= {int(kind) for kind in kinds}:
        raise BadInputError(f"{name} holds other geometries than polygons: leave them out.")
    if crs != target:
        way = Transformer.from_crs(crs.to_wkt(), target.to_wkt(), always_xy=True)
        polygons = shapely.transform(
            polygons, lambda places: np.stack(way.transform(*places.T), axis=1)
        )
        if not np.isfinite(shapely.bounds(polygons)).all():
            raise BadInputError(f"{name} reaches where {target} has no place: cut it, or mend it.")
    found: NDArray[Any] = shapely.make_valid(polygons)
    return found


def _transformed(x: Floats, y: Floats, crs: CRS, target: CRS) -> tuple[Floats, Floats]:
    way = Transformer.from_crs(crs.to_wkt(), target.to_wkt(), always_xy=True)
    there = [np.asarray(axis, np.float64) for axis in way.transform(x, y)]
    wrong = ~np.isfinite(there).all(axis=0)
    if wrong.any():
        row = int(wrong.argmax())
        raise BadInputError(
            f"Plot {row + 1} at {x[row]:g}, {y[row]:g} lies nowhere in {crs}: is plots.crs right?"
        )
    return there[0], there[1]


def map_windows(file: Any) -> Iterator[Window]:
    """All of an open map, in pieces."""
    height, width = file.shape
    for top in range(0, height, _WINDOW):
        for left in range(0, width, _WINDOW):
            yield Window(left, top, min(_WINDOW, width - left), min(_WINDOW, height - top))
