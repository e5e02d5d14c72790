"""One look for every figure, and figures as SVG that follows the page's light or dark theme.

matplotlib takes a second to import, so only what draws loads it: every command imports the colours.
"""

import io
import re
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Blue and vermillion of Okabe & Ito (2008), "Color Universal Design": told apart by all readers.
INK, MUTED, LINE = "#1f2328", "#656d76", "#d0d7de"
NETWORK, BASELINE = "#0072b2", "#d55e00"
# Perceptually uniform, and safe for colour-blind readers.
AGB_COLOURS = "viridis"
RESIDUAL_COLOURS = "PuOr"  # orange: too low, purple: too high
DENSITY_COLOURS = "cividis"
WIDTH_COLOURS = "magma"

# In a page each colour becomes the variable of that name, which a dark theme sets anew.
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    NETWORK: "--network",
    BASELINE: "--baseline",
}
_SMALL, _NORMAL = 8, 9
_MAP_IN = 7.0
_SCALE_PERCENTILE = 99.5  # a few outliers must not make everything else one colour


def new_figure(
    width_in: float, height_in: float, layout: Literal["constrained"] | None = "constrained"
) -> "Figure":
    """An empty figure that belongs to no window and is gone when nobody refers to it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout=layout, facecolor="white")


def dress(
    axes: "Axes", x_label: str = "", y_label: str = "", grid: Literal["y", "both"] | None = None
) -> None:
    """Give axes the common look, their labels and a grid; units belong in the labels."""
    if grid:
        axes.grid(axis=grid, color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.set_xlabel(x_label, color=INK, fontsize=_NORMAL)
    axes.set_ylabel(y_label, color=INK, fontsize=_NORMAL)
    axes.tick_params(colors=MUTED, labelsize=_SMALL)
    for side, spine in axes.spines.items():
        spine.set_color(MUTED)
        spine.set_visible(side in ("left", "bottom"))


def dress_map(axes: "Axes") -> None:
    """Give axes that hold an image a muted frame without ticks."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(MUTED)


def map_figure(values: NDArray[np.float32], title: str, label: str, **colours: Any) -> "Figure":
    """A figure of one map; grey where it has no data.

    Args:
        values: float32 [h, w].
        title: Its heading.
        label: Of the colour bar, with the unit.
        **colours: ``cmap``, ``vmin`` and ``vmax``.
    """
    height, width = values.shape
    figure = new_figure(_MAP_IN, min(12.0, max(3.0, 0.86 * _MAP_IN * height / width + 0.7)))
    axes = figure.subplots()
    axes.set_facecolor("#e8eaed")
    image = axes.imshow(values, interpolation="antialiased", **colours)
    dress_map(axes)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.set_xlabel("grey: no data; north is up", color=MUTED, fontsize=_SMALL, loc="left")
    extend = "both" if colours["vmin"] < 0 else "max"
    add_colour_bar(axes, image, label, extend=extend, shrink=0.8, pad=0.02)
    return figure


def add_colour_bar(axes: "Axes", image: "AxesImage", label: str, **places: Any) -> "Colorbar":
    """A colour bar without a box, in the common look."""
    assert axes.figure is not None
    bar = axes.figure.colorbar(image, ax=axes, **places)
    bar.set_label(label, color=INK, fontsize=_NORMAL)
    bar.ax.tick_params(colors=MUTED, labelsize=_SMALL)
    bar.outline.set_visible(False)
    return bar


def bar_length_m(width_m: float) -> float:
    """The largest of 1, 2, 5, 10 … metres that takes at most a quarter of the width."""
    target = width_m / 4
    power = 10.0 ** np.floor(np.log10(target))
    return float(max(step * power for step in (1, 2, 5) if step * power <= target))


def length_words(length_m: float) -> str:
    """A length as a scale bar has it."""
    return f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"


def add_scale_bar(
    axes: "Axes", shape: tuple[int, int], pixel_m: float, frame: float, fontsize: int = _SMALL
) -> None:
    """A bar of a round length in the lower left corner of an image.

    Args:
        axes: That the image is in.
        shape: Its height and width in pixels.
        pixel_m: Side of a pixel.
        frame: Height of the bar with its label, as a share of the image's shorter side.
        fontsize: Of the label.
    """
    from matplotlib.patches import Rectangle

    (height, width), side = shape, min(shape)
    length_m = bar_length_m(width * pixel_m)
    length, left, bottom = length_m / pixel_m, 0.045 * width, height - 0.05 * side
    corner = (left - 0.02 * side, bottom - 0.78 * frame * side)
    box: dict[str, Any] = {"facecolor": "#000000", "alpha": 0.6, "linewidth": 0}
    axes.add_patch(Rectangle(corner, length + 0.04 * side, frame * side, **box))
    axes.add_patch(
        Rectangle((left, bottom - 0.01 * side), length, 0.014 * side, facecolor="#ffffff")
    )
    axes.text(
        left + length / 2, bottom - 0.018 * side, length_words(length_m), color="#ffffff",
        fontsize=fontsize, ha="center", va="bottom",
    )  # fmt: skip


def round_top(values: NDArray[np.floating], step: float) -> float | None:
    """Where a colour scale from 0 ends: a multiple of a step that only outliers exceed.

    None where no value is known.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    high = float(np.percentile(known, _SCALE_PERCENTILE))
    return max(step, float(np.ceil(high / step)) * step)


def add_legend(axes: "Axes", **places: Any) -> None:
    """A legend without a box, in the common look."""
    axes.legend(frameon=False, fontsize=_SMALL, labelcolor=INK, **places)


def to_svg(figure: "Figure", name: str, description: str) -> str:
    """A figure for the inside of a page.

    Args:
        figure: The figure.
        name: Unique in the page: keeps the ids of several figures apart.
        description: What it shows, for those who can't see it.

    Returns:
        An ``<svg>`` element of flexible size with real text, whose colours are CSS variables.
        Images in it keep their own pixels.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'(, ('[^']*'|sans-serif))*", "system-ui, sans-serif", svg)
    # Generated ids repeat in every figure.
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    head, body = svg.split(">", 1)
    # The page decides how large it is; the view box keeps its shape.
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    # The reader's font may be taller than matplotlib's: a label at the edge must not be cut off.
    return f'{head} overflow="visible" role="img" aria-label="{escape(description)}">{body}'
