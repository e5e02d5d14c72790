"""A page that shows a map over a background; it holds everything and fetches nothing."""

import base64
import io
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray
from rasterio.crs import CRS

from biomassters import __version__
from biomassters.chips.bands import MONTH_NAMES
from biomassters.chips.provenance import training_words
from biomassters.regions.grid import Grid
from biomassters.regions.picture import MapPicture
from biomassters.regions.quicklook import bar_length_m, scale_top
from biomassters.reporting.figure_style import AGB_COLOURS

_TITLES = {
    "AGB": "Biomass",
    "AGB_lower": "Lower bound",
    "AGB_upper": "Upper bound",
    "months_used": "Months used",
}
_STEPS_PER_UNIT = 10  # values are stored in tenths
_NO_DATA = 65535
_LEGEND_COLOURS = 12


def render_page(picture: MapPicture, summary: dict[str, Any], title: str) -> str:
    """Build the page.

    Args:
        picture: What it shows.
        summary: Numbers of the whole map.
        title: Heading.

    Returns:
        HTML with images and values inside.
    """
    environment = Environment(
        loader=PackageLoader("biomassters.regions"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    layers = [
        _layer(name, values, scale_top(picture))
        for name, values in picture.layers.items()
        if np.isfinite(values).any()
    ]
    grid = picture.grid
    bar_m = bar_length_m(grid.width * grid.pixel_size)
    month = None if picture.month is None else MONTH_NAMES[picture.month]
    background = None if picture.background is None else _png(picture.background)
    return environment.get_template("map.html.j2").render(
        title=title,
        version=__version__,
        summary=summary,
        trained_on=training_words(summary["weights_trained_on"]),
        background=background,
        month=month,
        layers=layers,
        height=grid.height,
        width=grid.width,
        bar_share=100 * bar_m / (grid.width * grid.pixel_size),
        bar_text=f"{bar_m / 1000:g} km" if bar_m >= 1000 else f"{bar_m:g} m",
        data={
            "width": grid.width,
            "height": grid.height,
            "perUnit": _STEPS_PER_UNIT,
            "noData": _NO_DATA,
            "transform": tuple(grid.transform)[:6],
            "corners": _corners(grid),
            "layers": [{"title": one["title"], "unit": one["unit"]} for one in layers],
        },
        values=[one["values"] for one in layers],
        crs=grid.crs.to_string(),
    )


def _layer(name: str, values: NDArray[np.float32], agb_top: float) -> dict[str, Any]:
    months = name == "months_used"
    top = 12.0 if months else agb_top
    colours = colormaps["cividis" if months else AGB_COLOURS]
    rgba = (255 * colours(np.clip(np.nan_to_num(values) / top, 0, 1))).astype(np.uint8)
    rgba[..., 3] = np.where(np.isfinite(values), 255, 0)
    steps = np.where(
        np.isfinite(values),
        np.clip(np.rint(np.nan_to_num(values) * _STEPS_PER_UNIT), 0, _NO_DATA - 1),
        _NO_DATA,
    )
    legend = [colours(place) for place in np.linspace(0, 1, _LEGEND_COLOURS)]
    return {
        "title": _TITLES[name],
        "unit": "months" if months else "Mg/ha",
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


def _corners(grid: Grid) -> list[list[float]]:
    """Longitude and latitude of the corners: upper left and right, lower left and right."""
    from rasterio.warp import transform

    places = [grid.transform @ (x, y) for y in (0, grid.height) for x in (0, grid.width)]
    east, north = transform(grid.crs, CRS.from_epsg(4326), *zip(*places, strict=True))
    return [[float(x), float(y)] for x, y in zip(east, north, strict=True)]
