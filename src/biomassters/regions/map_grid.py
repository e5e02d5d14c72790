"""The map's own grid: pixels that are on the ground what the network takes them for."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform

from biomassters.errors import BadInputError
from biomassters.io.gdal import parse_crs
from biomassters.regions.area import Area, StatedArea, state_area
from biomassters.regions.grid import Grid
from biomassters.regions.inputs.layers import Layer
from biomassters.regions.options import AreaOptions, ImageOptions

log = logging.getLogger(__name__)
_WORLD = CRS.from_epsg(4326)
_GROUND_TOLERANCE = 0.01  # of a pixel's side, at the map's corners and in its middle


def settle_grid(
    layers: Sequence[Layer], images: ImageOptions, area: AreaOptions, place: str
) -> tuple[Grid, Area | None]:
    """The first grid whose pixels measure ``pixel_size_m`` on the ground, to 1 %.

    Tried in this order: the first image's own pixels, others in its coordinate system, those of
    the UTM zone. Where the user chose the coordinate system, no other one is tried.

    Args:
        layers: All images; the first one's grid counts.
        images: Coordinate system and size of the pixels.
        area: What is mapped.
        place: Where the images lie, for messages.

    Raises:
        BadInputError: No such grid, a coordinate system that can't be, or no image in the area.
    """
    size, stated = images.pixel_size_m, state_area(area)
    rejected: list[tuple[CRS, NDArray[np.float64], float]] = []
    for whole in _candidates(layers, images, stated):
        wanted = None if stated is None else stated.within(whole.crs)
        grid = _cut(whole, wanted, place)
        sides = grid.ground.sides_m()
        if np.abs(sides / size - 1).max() <= _GROUND_TOLERANCE:
            if rejected and rejected[-1][0] != grid.crs:
                log.warning(
                    "Pixels of %s; the map lies in %s instead.", _measured(*rejected[-1]), grid.crs
                )
            return grid, wanted
        rejected.append((grid.crs, sides, size))
    if images.crs is not None:
        raise BadInputError(
            f"mapping.images.crs: pixels of {_measured(*rejected[-1])}, and the network takes them "
            f"for {size:g} m; choose a coordinate system such as {_utm_zone(layers, stated)}, or "
            "null."
        )
    raise BadInputError(
        f"Pixels of {_measured(*rejected[-1])}: {place} reaches too far for one map of {size:g} m "
        "pixels; map it in parts (mapping.area), or choose mapping.images.crs."
    )


def _measured(crs: CRS, sides: NDArray[np.float64], size: float) -> str:
    worst = sides.flat[np.abs(sides / size - 1).argmax()]
    return f"{size:g} units in {crs} measure {worst:.2f} m on the ground"


def _candidates(
    layers: Sequence[Layer], images: ImageOptions, area: StatedArea | None
) -> Iterator[Grid]:
    first, size = layers[0].grid, images.pixel_size_m
    crs = first.crs if images.crs is None else _crs(images.crs)
    upright = first.transform.b == first.transform.d == 0 and first.transform.e < 0
    if first.crs == crs and upright and abs(first.pixel_size / size - 1) < 1e-6:
        grids = [layer.grid for layer in layers if layer.grid.offset_in(first) is not None]
        yield _union(first, grids)
    if crs.is_projected:
        yield _new_grid(layers, crs, size)
    if images.crs is None:
        yield _new_grid(layers, _utm_zone(layers, area), size)


def _new_grid(layers: Sequence[Layer], crs: CRS, size: float) -> Grid:
    """Pixels over all images."""
    bounds = np.array([layer.grid.bounds_in(crs) for layer in layers])
    west, south = np.floor(bounds[:, :2].min(axis=0) / size) * size
    east, north = np.ceil(bounds[:, 2:].max(axis=0) / size) * size
    transform, width, height = calculate_default_transform(
        crs, crs, round((east - west) / size), round((north - south) / size),
        west, south, east, north, resolution=size,
    )  # fmt: skip
    return Grid(crs, transform, height, width)


def _cut(grid: Grid, wanted: Area | None, place: str) -> Grid:
    if wanted is None:
        return grid
    clipped = grid.window_of(wanted.bounds).clipped(*grid.shape)
    if not clipped.height or not clipped.width:
        degrees = ", ".join(f"{value:.4f}" for value in grid.bounds_in(_WORLD))
        raise BadInputError(
            f"The images in {place} do not overlap the area: they cover {degrees} "
            "(west, south, east, north in degrees); check mapping.area."
        )
    return grid.part(clipped)


def _union(first: Grid, grids: list[Grid]) -> Grid:
    bounds = np.array([grid.bounds for grid in grids])
    corners = (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    return first.part(first.window_of(corners))


def _utm_zone(layers: Sequence[Layer], area: StatedArea | None) -> CRS:
    """The zone of the middle of what is mapped."""
    corners = np.array([layer.grid.bounds_in(_WORLD) for layer in layers])
    west, south = corners[:, :2].min(axis=0)
    east, north = corners[:, 2:].max(axis=0)
    if area is not None:
        wanted = area.within(_WORLD)
        west, south = np.maximum((west, south), wanted.bounds[:2])
        east, north = np.minimum((east, north), wanted.bounds[2:])
    zone = int((west + east) / 2 // 6) + 31
    return CRS.from_epsg((32600 if south + north >= 0 else 32700) + min(max(zone, 1), 60))


def _crs(text: str) -> CRS:
    crs = parse_crs(text, "mapping.images.crs")
    if not crs.is_projected:
        raise BadInputError(
            f"mapping.images.crs: {text} is in degrees; choose one in metres, such as EPSG:3067."
        )
    return crs
