"""Images of any coordinate system and resolution on the map's grid, window by window."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject

from biomassters.chips.bands import S1, S1_LEAST_DB
from biomassters.regions.grid import Grid, PixelWindow, bounds_between
from biomassters.regions.inputs.band_names import CLOUD_PROBABILITY, SCENE_CLASSES
from biomassters.regions.inputs.layers import Layer, Values

_BY_CLASS = (CLOUD_PROBABILITY, SCENE_CLASSES)  # 255 and class numbers must not be averaged
_PICKED_BEYOND, _PICKED = 8, 4  # of an image's pixels in one of the map's, along a side
_FINER = 0.75  # of the map's pixel: below it several of the image's pixels are averaged


def read_aligned(layer: Layer, grid: Grid, window: PixelWindow) -> Values:
    """An image as it looks in a window of the map.

    On the map's own grid pixels are copied. Elsewhere they are averaged where the image is finer
    than the map, interpolated bilinearly where it is not, and taken from the nearest pixel in
    CLP and SCL. Backscatter is averaged as power, not as dB, and without what is no backscatter:
    a −9999 that no tag of the file mentions, or that earlier resampling has blurred. A pixel has
    data where the image has data at the pixel's centre, so that the area with data is right on
    average, and neighbouring scenes leave neither gap nor overlap.

    Args:
        layer: The image.
        grid: Of the map.
        window: Of the map; may reach beyond map and image.

    Returns:
        float32 [bands, h, w], NaN where there is no data.

    Raises:
        DamagedFileError: The file can't be read.
    """
    target = grid.part(window)
    offset = target.offset_in(layer.grid)
    if offset is not None:
        return _copied(layer, PixelWindow(*offset, *window.shape))
    return _resampled(layer, target)


def _copied(layer: Layer, window: PixelWindow) -> Values:
    out = np.full((len(layer.bands), *window.shape), np.nan, np.float32)
    inside = window.clipped(*layer.grid.shape)
    if inside.height and inside.width:
        out[(..., *inside.slices_in(window))] = _read(layer, inside)
    return out


def _resampled(layer: Layer, target: Grid) -> Values:
    out = np.full((len(layer.bands), *target.shape), np.nan, np.float32)
    margin = 2 * max(target.pixel_size, 1e-12)
    west, south, east, north = target.bounds
    around = (west - margin, south - margin, east + margin, north + margin)
    wanted = layer.grid.window_of(bounds_between(target.crs, layer.grid.crs, around))
    grown = PixelWindow(wanted.top - 2, wanted.left - 2, wanted.height + 4, wanted.width + 4)
    inside = grown.clipped(*layer.grid.shape)
    if not inside.height or not inside.width:
        return out
    ratio = wanted.width / target.width
    smooth = Resampling.average if ratio > 1 / _FINER else Resampling.bilinear
    values = _read(layer, inside, _picked(inside, ratio))
    source = _of_size(layer.grid.part(inside), *values.shape[1:])
    centres = _at_centres(values, source, target)
    for index, band in enumerate(layer.bands):
        if band in _BY_CLASS:
            out[index] = centres[index]
            continue
        is_db = band in S1.bands
        image = _power(values[index]) if is_db else values[index]
        _warp(image, source, out[index], target, np.nan, smooth)
        if is_db:
            out[index] = _decibels(out[index])
        # Pixels that an image's edge merely touches would all count whole: 6.8 % too much area
        # of 64 x 64 pixels of Web Mercator at 62 degrees north.
        out[index, np.isnan(centres[index])] = np.nan
    return out


def _at_centres(values: Values, source: Grid, target: Grid) -> Values:
    """The source's pixels at the centres of the target's, float32 [bands, h, w], NaN beyond it."""
    places = np.arange(source.height * source.width, dtype=np.int32).reshape(source.shape)
    at = np.full(target.shape, -1, np.int32)
    _warp(places, source, at, target, -1, Resampling.nearest)
    picked = values.reshape(len(values), -1)[:, np.maximum(at, 0)]
    picked[:, at < 0] = np.nan
    return picked


def _warp(
    image: NDArray[Any],
    source: Grid,
    out: NDArray[Any],
    target: Grid,
    nodata: float,
    method: Resampling,
) -> None:
    reproject(
        image, out, src_transform=source.transform, src_crs=source.crs, src_nodata=nodata,
        dst_transform=target.transform, dst_crs=target.crs, dst_nodata=nodata,
        resampling=method, num_threads=1,
    )  # fmt: skip


def _read(layer: Layer, window: PixelWindow, shape: tuple[int, int] | None = None) -> Values:
    values = layer.read(window, shape)
    for band, image in zip(layer.bands, values, strict=True):
        if band in S1.bands:
            image[image < S1_LEAST_DB] = np.nan
    return values


def _picked(window: PixelWindow, ratio: float) -> tuple[int, int] | None:
    """Pixels to pick where very many lie in one of the map's: pictures need no more."""
    if ratio <= _PICKED_BEYOND:
        return None
    height, width = (max(1, int(size * _PICKED / ratio)) for size in window.shape)
    return height, width


def _of_size(grid: Grid, height: int, width: int) -> Grid:
    """A grid over the same ground with another number of pixels."""
    scale = Affine.scale(grid.width / width, grid.height / height)
    return Grid(grid.crs, grid.transform @ scale, height, width)


def _power(db: Values) -> Values:
    return np.power(np.float32(10), db / np.float32(10))


def _decibels(power: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(power), np.float32)
