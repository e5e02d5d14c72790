"""Images of any coordinate system and resolution on the map's grid, window by window."""

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window

from biomassters.chips.bands import BAND, DB, SENSOR_OF_BAND
from biomassters.imagery.asset_names import SCENE_CLASSES
from biomassters.imagery.pixel_grid import Grid, bounds_between, clipped, slices_in
from biomassters.regions.inputs.layers import Layer, Values

# 255 for none and class numbers must not be averaged.
_BY_CLASS = (SCENE_CLASSES, *(name for name, band in BAND.items() if band.none is not None))
_PICKED_BEYOND, _PICKED = 8, 4  # of an image's pixels in one of the map's, along a side
_FINER = 0.75  # of the map's pixel: below it several of the image's pixels are averaged


def read_aligned(layer: Layer, grid: Grid, window: Window) -> Values:
    """An image as it looks in a window of the map.

    On the map's own grid pixels are copied. Elsewhere they are averaged where the image is finer
    than the map, interpolated bilinearly where it is not, and taken from the nearest pixel in
    CLP and SCL. Backscatter is averaged as power, not as dB, and without what is no backscatter:
    a −9999 that no tag of the file mentions, or that earlier resampling has blurred. A pixel has
    data where the image has data at the pixel's centre, so that the area with data is right on
    average, and neighbouring scenes leave neither gap nor overlap.

    Returns:
        float32 [bands, h, w], NaN where there is no data; the window may reach beyond both.

    Raises:
        DamagedFileError: The file can't be read.
    """
    target = grid.part(window)
    out = np.full((len(layer.bands), *target.shape), np.nan, np.float32)
    offset = target.offset_in(layer.grid)
    if offset is None:
        _resample(layer, target, out)
        return out
    top, left = offset
    there = Window(left, top, target.width, target.height)
    part = clipped(there, *layer.grid.shape)
    if part is not None:
        out[(..., *slices_in(part, there))] = _read(layer, part)
    return out


def _resample(layer: Layer, target: Grid, out: Values) -> None:
    margin = 2 * max(target.pixel_size, 1e-12)
    west, south, east, north = target.bounds
    around = (west - margin, south - margin, east + margin, north + margin)
    wanted = layer.grid.window_of(bounds_between(target.crs, layer.grid.crs, around))
    grown = Window(wanted.col_off - 2, wanted.row_off - 2, wanted.width + 4, wanted.height + 4)
    part = clipped(grown, *layer.grid.shape)
    if part is None:
        return
    ratio = wanted.width / target.width
    smooth = Resampling.average if ratio > 1 / _FINER else Resampling.bilinear
    size = None
    if ratio > _PICKED_BEYOND:  # a picture needs no more
        height, width = (int(side * _PICKED / ratio) for side in (part.height, part.width))
        size = max(1, height), max(1, width)
    values = _read(layer, part, size)
    source = layer.grid.part(part).resized(*values.shape[1:])
    # The image's pixels at the centres of the map's; beyond the image number 0 stands in.
    numbers = np.arange(source.height * source.width, dtype=np.int32).reshape(source.shape)
    nearest = np.full(target.shape, -1, np.int32)
    _warp(numbers, source, nearest, target, -1, Resampling.nearest)
    centres = values.reshape(len(values), -1)[:, np.maximum(nearest, 0)]
    centres[:, nearest < 0] = np.nan
    for band, image, warped, centre in zip(layer.bands, values, out, centres, strict=True):
        if band in _BY_CLASS:
            warped[:] = centre
            continue
        if BAND[band].unit == DB:
            power = np.float32(10) ** (image / np.float32(10))
            _warp(power, source, warped, target, np.nan, smooth)
            with np.errstate(divide="ignore", invalid="ignore"):
                warped[:] = 10 * np.log10(warped)
        else:
            _warp(image, source, warped, target, np.nan, smooth)
        # Pixels that an image's edge merely touches would all count whole: 6.8 % too much area
        # of 64 x 64 pixels of Web Mercator at 62 degrees north.
        warped[np.isnan(centre)] = np.nan


def _warp(
    image: NDArray, source: Grid, out: NDArray, target: Grid, nodata: float, method: Resampling
) -> None:
    reproject(
        image, out, src_transform=source.transform, src_crs=source.crs, src_nodata=nodata,
        dst_transform=target.transform, dst_crs=target.crs, dst_nodata=nodata,
        resampling=method, num_threads=1,
    )  # fmt: skip


def _read(layer: Layer, window: Window, shape: tuple[int, int] | None = None) -> Values:
    values = layer.read(window, shape)
    for band, image in zip(layer.bands, values, strict=True):
        floor = None if band == SCENE_CLASSES else SENSOR_OF_BAND[band].floor
        if floor is not None:
            image[image < floor] = np.nan
    return values
