"""A map to look at: one figure, and a page that holds everything and fetches nothing.

Both show ``MapPicture``: the map at low resolution, and an image that lies beneath it.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from biomassters.chips.bands import MONTH_NAMES
from biomassters.chips.provenance import training_words
from biomassters.imagery.pixel_grid import Grid
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.metrics import AGB_UNIT
from biomassters.regions.alignment import read_aligned
from biomassters.regions.inputs.layers import GDAL_CACHE
from biomassters.regions.inputs.source import RegionSource
from biomassters.regions.map_writer import BANDS
from biomassters.reporting.figure_style import (
    AGB_COLOURS,
    add_scale_bar,
    bar_length_m,
    length_words,
    map_figure,
    round_top,
)
from biomassters.reporting.pages import render

_LONGEST_SIDE = 1024
_CLEAREST = (10, 9, 11, 8, 0, 7, 1, 6, 2, 5, 4, 3)  # July first: leaves, and no snow
_RGB = ("B4", "B3", "B2")
_STRETCH = (1.0, 99.0)  # percentiles that become black and white
_FEWEST = 0.5  # share of the picture that a background must cover
_SCALE_STEP = 50.0  # Mg/ha
_TITLES = dict(zip(BANDS, ("Biomass", "Lower bound", "Upper bound", "Months used"), strict=True))
_STEPS_PER_UNIT = 10  # the page stores values in tenths
_NO_DATA = 65535
_LEGEND_COLOURS = 12


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

    @property
    def scale_top(self) -> float:
        """A round upper end of the colours, Mg/ha."""
        return round_top(self.layers["AGB"], _SCALE_STEP) or _SCALE_STEP

    @property
    def width_top(self) -> float | None:
        """The same of the intervals' width; None where there are no intervals."""
        return round_top(self.layers["AGB_upper"] - self.layers["AGB_lower"], _SCALE_STEP)


def make_picture(path: Path, source: RegionSource) -> MapPicture:
    """Read a map at low resolution, from its overviews, and an image beneath it."""
    factor = max(1.0, max(source.grid.shape) / _LONGEST_SIDE)
    height, width = (max(1, round(size / factor)) for size in source.grid.shape)
    grid = source.grid.resized(height, width)
    with gdal_environment(**GDAL_CACHE), open_raster(path) as file:
        size = (file.count, *grid.shape)
        values = file.read(out_shape=size, resampling=Resampling.average, masked=True)
    layers = dict(zip(BANDS, values.filled(np.nan), strict=True))
    return MapPicture(grid, layers, *_background(source, grid))


def _background(source: RegionSource, grid: Grid) -> tuple[NDArray[np.uint8] | None, int | None]:
    """The first summery image that covers enough; the months are tried in turn."""
    whole = Window(0, 0, grid.width, grid.height)
    for month in sorted(source.months, key=lambda one: _CLEAREST.index(one.month)):
        image = np.full((3, *grid.shape), np.nan, np.float32)
        for layer in month.of["s2"]:
            wanted = [band for band in _RGB if band in layer.bands]
            values = read_aligned(layer, grid, whole) if wanted else ()
            for band in wanted:
                place = image[_RGB.index(band)]
                np.copyto(place, values[layer.bands.index(band)], where=np.isnan(place))
        seen = np.asarray((np.nan_to_num(image) > 0).any(axis=0))
        if seen.mean() >= _FEWEST:
            return _stretched(image, seen), month.month
    return None, None


def _stretched(image: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    out = np.zeros((*seen.shape, 3), np.uint8)
    for band, values in enumerate(np.nan_to_num(image)):
        low, high = np.percentile(values[seen], _STRETCH)
        scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1) ** 0.8
        out[..., band] = np.where(seen, 255 * scaled, 0)
    return out


def quick_look(picture: MapPicture, title: str) -> Figure:
    """Draw a map with scale bar and legend."""
    figure = map_figure(
        picture.layers["AGB"], title, f"Aboveground biomass, {AGB_UNIT}",
        cmap=AGB_COLOURS, vmin=0, vmax=picture.scale_top,
    )  # fmt: skip
    add_scale_bar(figure.axes[0], picture.grid.shape, picture.grid.pixel_size, frame=0.085)
    return figure


def render_page(
    picture: MapPicture, summary: dict[str, Any], title: str, map_file: Path | None = None
) -> str:
    """A page of HTML, with images and values inside.

    Args:
        picture: What it shows.
        summary: Of the whole map.
        title: Its heading.
        map_file: The GeoTIFF, which lies beside the page and is linked with what belongs to it;
            None links nothing.
    """
    layers = [
        _page_layer(name, values, picture.scale_top)
        for name, values in picture.layers.items()
        if np.isfinite(values).any()
    ]
    grid = picture.grid
    ground_m = grid.width * grid.pixel_size
    bar_m = bar_length_m(ground_m)
    return render(
        "regions",
        "map.html.j2",
        title=title,
        summary=summary,
        trained_on=training_words(summary["weights_trained_on"]),
        background=None if picture.background is None else _png(picture.background),
        month=None if picture.month is None else MONTH_NAMES[picture.month],
        layers=layers,
        height=grid.height,
        width=grid.width,
        bar_share=100 * bar_m / ground_m,
        bar_text=length_words(bar_m),
        data={
            "width": grid.width,
            "height": grid.height,
            "perUnit": _STEPS_PER_UNIT,
            "noData": _NO_DATA,
            "pixelSize": grid.pixel_size,
            "transform": tuple(grid.transform)[:6],
            # Upper left and right, lower left and right.
            "corners": grid.degrees((x, y) for y in (0, grid.height) for x in (0, grid.width)),
            "layers": [{"title": one["title"], "unit": one["unit"]} for one in layers],
        },
        values=[one["values"] for one in layers],
        files=[]
        if map_file is None
        else [
            (quote(name), name, what)
            for name, what in (
                (map_file.name, "the map, GeoTIFF"),
                (f"{map_file.stem}.qml", "its colours, for QGIS"),
                (f"{map_file.name}.summary.json", "all numbers"),
                (f"{map_file.name}.item.json", "STAC item"),
            )
        ],
        crs=grid.crs.to_string(),
    )


def _page_layer(name: str, values: NDArray[np.float32], agb_top: float) -> dict[str, Any]:
    months = name == "months_used"
    top = 12.0 if months else agb_top
    colours = colormaps["cividis" if months else AGB_COLOURS]
    known, numbers = np.isfinite(values), np.nan_to_num(values)
    rgba = (255 * colours(np.clip(numbers / top, 0, 1))).astype(np.uint8)
    rgba[..., 3] = np.where(known, 255, 0)
    steps = np.clip(np.rint(numbers * _STEPS_PER_UNIT), 0, _NO_DATA - 1)
    steps = np.where(known, steps, _NO_DATA)
    legend = [colours(place) for place in np.linspace(0, 1, _LEGEND_COLOURS)]
    return {
        "title": _TITLES[name],
        "unit": "months" if months else AGB_UNIT,
        "top": f"{top:g}",
        "image": _png(rgba),
        "values": base64.b64encode(steps.astype("<u2").tobytes()).decode(),
        "legend": ", ".join(
            f"rgb({255 * r:.0f} {255 * g:.0f} {255 * b:.0f})" for r, g, b, _ in legend
        ),
    }


def _png(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
