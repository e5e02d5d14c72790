"""The grid that a map gets: pixels that are on the ground what the network takes them for."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform

from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import WORLD, Bounds, Grid, bounds_around, clipped, utm_zone
from biomassters.io.gdal import parse_crs
from biomassters.regions.options import ImageOptions

log = logging.getLogger(__name__)
_GROUND_TOLERANCE = 0.01  # of a pixel's side, at the map's corners and in its middle


def settle_grid(
    images: Sequence[Grid],
    options: ImageOptions,
    area_in: Callable[[CRS], Bounds] | None,
    place: str,
) -> Grid:
    """The first grid whose pixels measure ``pixel_size_m`` on the ground, to 1 %.

    Tried in this order: the first image's own pixels, others in its coordinate system, those of
    the UTM zone. Where the user chose the coordinate system, no other one is tried.

    Args:
        images: Of all images; the first one counts.
        options: Coordinate system and size of the pixels.
        area_in: Bounds of what is mapped in a coordinate system; None: everything.
        place: Where the images lie, for messages.

    Raises:
        BadInputError: No such grid, a coordinate system that can't be, or no image in the area.
    """
    size, tried = options.pixel_size_m, ""
    last: CRS | None = None
    for grid in _candidates(images, options, area_in):
        if area_in is not None:
            grid = _cut(grid, area_in(grid.crs), place)
        sides = grid.ground.sides_m()
        wrong = np.abs(sides / size - 1)
        if wrong.max() <= _GROUND_TOLERANCE:
            if last is not None and last != grid.crs:
                log.warning("Pixels of %s; the map lies in %s instead.", tried, grid.crs)
            return grid
        worst = sides.flat[wrong.argmax()]
        last = grid.crs
        tried = f"{size:g} units in {last} measure {worst:.2f} m on the ground"
    if options.crs is not None:
        raise BadInputError(
            f"mapping.images.crs: pixels of {tried}, and the network takes them "
            f"for {size:g} m; choose a coordinate system such as {_utm_zone(images, area_in)}, or "
            "null."
        )
    raise BadInputError(
        f"Pixels of {tried}: {place} reaches too far for one map of {size:g} m "
        "pixels; map it in parts (mapping.area), or choose mapping.images.crs."
    )


def _candidates(
    images: Sequence[Grid], options: ImageOptions, area_in: Callable[[CRS], Bounds] | None
) -> Iterator[Grid]:
    """Pixels over all images."""
    first, size = images[0], options.pixel_size_m
    crs = first.crs if options.crs is None else parse_crs(options.crs, "mapping.images.crs")
    if options.crs is not None and not crs.is_projected:
        raise BadInputError(
            f"mapping.images.crs: {options.crs} is in degrees; choose one in metres, such as "
            "EPSG:3067."
        )
    upright = first.transform.b == first.transform.d == 0 and first.transform.e < 0
    if first.crs == crs and upright and abs(first.pixel_size / size - 1) < 1e-6:
        alike = [grid.bounds for grid in images if grid.offset_in(first) is not None]
        yield first.part(first.window_of(bounds_around(alike)))
    if crs.is_projected:
        yield _new_grid(images, crs, size)
    if options.crs is None:
        yield _new_grid(images, _utm_zone(images, area_in), size)


def _new_grid(images: Sequence[Grid], crs: CRS, size: float) -> Grid:
    bounds = np.array(bounds_around(grid.bounds_in(crs) for grid in images))
    west, south = np.floor(bounds[:2] / size) * size
    east, north = np.ceil(bounds[2:] / size) * size
    fitted, width, height = calculate_default_transform(
        crs, crs, round((east - west) / size), round((north - south) / size),
        west, south, east, north, resolution=size,
    )  # fmt: skip
    return Grid(crs, fitted, height, width)


def _cut(grid: Grid, wanted: Bounds, place: str) -> Grid:
    window = clipped(grid.window_of(wanted), *grid.shape)
    if window is None:
        degrees = ", ".join(f"{value:.4f}" for value in grid.bounds_in(WORLD))
        raise BadInputError(
            f"The images in {place} do not overlap the area: they cover {degrees} "
            "(west, south, east, north in degrees); check mapping.area."
        )
    return grid.part(window)


def _utm_zone(images: Sequence[Grid], area_in: Callable[[CRS], Bounds] | None) -> CRS:
    """The zone of the middle of what is mapped."""
    west, south, east, north = bounds_around(grid.bounds_in(WORLD) for grid in images)
    if area_in is not None:
        wanted = area_in(WORLD)
        west, south = max(west, wanted[0]), max(south, wanted[1])
        east, north = min(east, wanted[2]), min(north, wanted[3])
    return utm_zone((west, south, east, north))
