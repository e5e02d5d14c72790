"""One month's images of both sensors in a window of the map, as the network takes them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import CLP_NONE, S1, S1_STORE_FILL, S2
from biomassters.chips.store.chunks import pack_backscatter
from biomassters.regions.alignment import read_aligned
from biomassters.regions.grid import Grid, PixelWindow
from biomassters.regions.inputs.band_names import (
    SCENE_CLASSES,
    SCENE_CLOUDS_PERCENT,
    SCENE_NODATA,
)
from biomassters.regions.inputs.layers import Layer, Values

_COUNTS_MAX = 65535


@dataclass(frozen=True)
class MonthLayers:
    """Files of one month.

    Attributes:
        month: 0 (September) to 11.
        s1: Layers of Sentinel-1; where they overlap, the first with data counts.
        s2: Layers of Sentinel-2.
    """

    month: int
    s1: tuple[Layer, ...] = ()
    s2: tuple[Layer, ...] = ()

    def read_s1(self, grid: Grid, window: PixelWindow) -> NDArray[np.int16]:
        """int16 [4, h, w] in 0.01 dB; −32768 where there is no data."""
        if not self.s1:
            return np.full((len(S1.bands), *window.shape), S1_STORE_FILL, np.int16)
        return pack_backscatter(_merged(self.s1, S1.bands, grid, window))

    def read_s2(self, grid: Grid, window: PixelWindow) -> NDArray[np.uint16]:
        """uint16 [11, h, w]; 0 without data, CLP then 255 within an image and 0 without one."""
        out = np.zeros((len(S2.bands), *window.shape), np.uint16)
        if not self.s2:
            return out
        values = _merged(self.s2, (*S2.bands, SCENE_CLASSES), grid, window)
        optical, clouds, scene = values[:-2], values[-2], values[-1]
        _apply_scene(scene, optical, clouds)
        seen = (optical > 0).any(axis=0)  # NaN is not
        optical[:, ~seen] = 0
        clouds[~seen | np.isnan(clouds)] = CLP_NONE
        counts = values[:-1]
        np.fmax(np.rint(counts, out=counts), 0, out=counts)  # NaN becomes 0, too
        out[:] = np.minimum(counts, _COUNTS_MAX, out=counts)
        return out


def _merged(
    layers: tuple[Layer, ...], names: tuple[str, ...], grid: Grid, window: PixelWindow
) -> Values:
    """Bands in the table's order, float32 [bands, h, w]; NaN where no layer has data."""
    out = np.full((len(names), *window.shape), np.nan, np.float32)
    filled: set[str] = set()
    for layer in layers:
        values = read_aligned(layer, grid, window)
        for band, image in zip(layer.bands, values, strict=True):
            place = out[names.index(band)]
            np.copyto(place, image, where=np.isnan(place) if band in filled else True)
            filled.add(band)
    return out


def _apply_scene(scene: Values, optical: Values, clouds: Values) -> None:
    """Let scene classes stand in for missing cloud probabilities and mark what has no data."""
    known = ~np.isnan(scene)
    if not known.any():
        return
    optical[:, known & np.isin(scene, SCENE_NODATA)] = np.nan
    open_ = known & np.isnan(clouds)
    clouds[open_] = 0.0
    for number, percent in SCENE_CLOUDS_PERCENT.items():
        clouds[open_ & (scene == number)] = percent
