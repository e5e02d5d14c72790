"""A map made small enough to look at, with what lies beneath."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.regions.alignment import read_aligned
from biomassters.regions.assembly import BANDS
from biomassters.regions.grid import Grid, PixelWindow
from biomassters.regions.inputs.layers import GDAL_CACHE, Layer
from biomassters.regions.inputs.source import RegionSource

LONGEST_SIDE = 1024
_CLEAREST = (10, 9, 11, 8, 0, 7, 1, 6, 2, 5, 4, 3)  # July first: leaves, and no snow
_RGB = ("B4", "B3", "B2")
_STRETCH = (1.0, 99.0)  # percentiles that become black and white
_FEWEST = 0.5  # share of the picture that a background must cover


@dataclass(frozen=True, eq=False)
class MapPicture:
    """What is shown of a map.

    Attributes:
        grid: Of the small picture.
        layers: float32 [h, w] by name of the band; NaN where there is no data.
        background: uint8 [h, w, 3], natural colours, or None without an optical image.
        month: Of the background.
    """

    grid: Grid
    layers: dict[str, NDArray[np.float32]]
    background: NDArray[np.uint8] | None
    month: int | None


def make_picture(path: Path, source: RegionSource) -> MapPicture:
    """Read a map at low resolution, from its overviews, and an image beneath it.

    Args:
        path: The map.
        source: The images.
    """
    from rasterio.enums import Resampling

    grid = small_grid(source.grid)
    with gdal_environment(**GDAL_CACHE), open_raster(path) as file:
        size = (file.count, *grid.shape)
        values = file.read(out_shape=size, resampling=Resampling.average, masked=True)
    layers = dict(zip(BANDS, values.filled(np.nan), strict=True))
    background, month = _background(source, grid)
    return MapPicture(grid, layers, background, month)


def small_grid(grid: Grid) -> Grid:
    """The same ground in at most ``LONGEST_SIDE`` pixels a side."""
    factor = max(1.0, max(grid.shape) / LONGEST_SIDE)
    height, width = (max(1, round(size / factor)) for size in grid.shape)
    scale = Affine.scale(grid.width / width, grid.height / height)
    return Grid(grid.crs, grid.transform @ scale, height, width)


def _background(source: RegionSource, grid: Grid) -> tuple[NDArray[np.uint8] | None, int | None]:
    """The first summery image that covers enough; the months are tried in turn."""
    whole = PixelWindow(0, 0, *grid.shape)
    for month in sorted(source.months, key=lambda one: _CLEAREST.index(one.month)):
        image = np.full((3, *grid.shape), np.nan, np.float32)
        for layer in month.s2:
            _fill(image, layer, grid, whole)
        seen = np.asarray((np.nan_to_num(image) > 0).any(axis=0))
        if seen.mean() >= _FEWEST:
            return _stretched(image, seen), month.month
    return None, None


def _fill(image: NDArray[np.float32], layer: Layer, grid: Grid, whole: PixelWindow) -> None:
    wanted = [band for band in _RGB if band in layer.bands]
    if not wanted:
        return
    values = read_aligned(layer, grid, whole)
    for band in wanted:
        place = image[_RGB.index(band)]
        np.copyto(place, values[layer.bands.index(band)], where=np.isnan(place))


def _stretched(image: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    out = np.zeros((*seen.shape, 3), np.uint8)
    for band, values in enumerate(np.nan_to_num(image)):
        low, high = np.percentile(values[seen], _STRETCH)
        scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1) ** 0.8
        out[..., band] = np.where(seen, 255 * scaled, 0)
    return out
