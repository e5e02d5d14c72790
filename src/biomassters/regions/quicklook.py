"""The quick look: one figure of a map with scale bar and legend."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from biomassters.metrics import AGB_UNIT
from biomassters.regions.picture import MapPicture
from biomassters.reporting.figure_style import AGB_COLOURS, INK, MUTED, new_figure

_WIDTH_IN = 7.0
_DENSE_PERCENTILE = 99.5


def scale_top(picture: MapPicture) -> float:
    """A round upper end of the colours, Mg/ha."""
    agb = picture.layers["AGB"]
    known = agb[np.isfinite(agb)]
    high = float(np.percentile(known, _DENSE_PERCENTILE)) if known.size else 0.0
    return max(50.0, float(np.ceil(high / 50.0)) * 50.0)


def bar_length_m(width_m: float) -> float:
    """The largest of 1, 2, 5, 10 … metres that takes at most a quarter of the width."""
    target = width_m / 4
    power = 10.0 ** np.floor(np.log10(target))
    return float(max(step * power for step in (1, 2, 5) if step * power <= target))


def quick_look(picture: MapPicture, title: str) -> Figure:
    """Draw a map.

    Args:
        picture: What is shown.
        title: Above it.
    """
    height, width = picture.grid.shape
    figure = new_figure(_WIDTH_IN, min(12.0, max(3.0, _WIDTH_IN * 0.86 * height / width + 0.7)))
    axes = figure.subplots()
    axes.set_facecolor("#e8eaed")
    image = axes.imshow(
        picture.layers["AGB"], cmap=AGB_COLOURS, vmin=0, vmax=scale_top(picture),
        interpolation="antialiased",
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(MUTED)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.set_xlabel("grey: no data; north is up", color=MUTED, fontsize=8, loc="left")
    bar = figure.colorbar(image, ax=axes, extend="max", shrink=0.8, pad=0.02)
    bar.set_label(f"Aboveground biomass, {AGB_UNIT}", color=INK, fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
    bar.outline.set_visible(False)
    _draw_scale_bar(axes, picture)
    return figure


def _draw_scale_bar(axes: Axes, picture: MapPicture) -> None:
    height, width = picture.grid.shape
    length_m = bar_length_m(width * picture.grid.pixel_size)
    length = length_m / picture.grid.pixel_size
    side = min(height, width)
    left, bottom = 0.04 * width, height - 0.04 * side
    frame = (left - 0.015 * side, bottom - 0.065 * side)
    axes.add_patch(
        Rectangle(frame, length + 0.03 * side, 0.085 * side, facecolor="#000000", alpha=0.6)
    )
    axes.add_patch(
        Rectangle((left, bottom - 0.008 * side), length, 0.012 * side, facecolor="white")
    )
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    axes.text(
        left + length / 2, bottom - 0.014 * side, text, color="white", fontsize=8,
        ha="center", va="bottom",
    )  # fmt: skip
