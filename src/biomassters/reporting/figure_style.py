"""One look for every figure, and figures as SVG that follows the page's light or dark theme.

matplotlib takes a second to import, so only what draws loads it: every command imports the colours.
"""

import io
import re
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
