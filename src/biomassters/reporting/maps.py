"""Chips as maps: image, target, prediction and residual on scales that all chips share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from biomassters.chips.bands import PIXEL_SIZE_M
from biomassters.metrics import AGB_UNIT
from biomassters.reporting.figure_style import (
    AGB_COLOURS,
    INK,
    MUTED,
    RESIDUAL_COLOURS,
    WIDTH_COLOURS,
)
from biomassters.reporting.pictures import ChipPicture

PANELS = ("rgb", "target", "prediction", "residual", "width")
_BAR_LENGTHS_M = (2000, 1000, 500, 200, 100, 50)
_BAR_LABELS = {RESIDUAL_COLOURS: "Prediction − target", WIDTH_COLOURS: "Upper − lower"}
_SCALE_PERCENTILE = 99.5  # a few outliers must not make everything else one colour


@dataclass(frozen=True)
class MapScale:
    """The ends of the colour scales, the same for every chip shown together.

    Attributes:
        agb_top: Colours span 0 … this, Mg/ha.
        residual_top: Colours span − this … this, Mg/ha.
        width_top: Of the interval's width; colours span 0 … this, Mg/ha.
    """

    agb_top: float
    residual_top: float
    width_top: float = 50.0

    @classmethod
    def of(cls, pictures: Sequence[ChipPicture]) -> "MapScale":
        """Scales that fit all of some pictures."""
        agb = [values for picture in pictures for values in (picture.target, picture.prediction)]
        residuals = [np.abs(picture.residual) for picture in pictures]
        widths = [one.interval_width for one in pictures if one.interval_width is not None]
        return cls(
            _round_top(agb, step=50.0),
            _round_top(residuals, step=25.0),
            _round_top(widths, step=50.0),
        )


def _round_top(arrays: Sequence[NDArray[np.float32]], step: float) -> float:
    top = max((float(np.percentile(values, _SCALE_PERCENTILE)) for values in arrays), default=0.0)
    return max(step, float(np.ceil(top / step)) * step)


def example_maps(pictures: Sequence[ChipPicture]) -> Figure:
    """All pictures in one figure: a row a chip, a column each of ``PANELS``."""
    rows, panels = max(1, len(pictures)), panels_of(pictures)
    height_in = 3.3 * rows + 0.1
    figure = Figure(figsize=(2.75 * len(panels), height_in), facecolor="white")
    grid = figure.subplots(rows, len(panels), squeeze=False)
    bottom, top = 0.6 / height_in, 1 - 0.3 / height_in
    figure.subplots_adjust(0.05, bottom, 0.99, top, wspace=0.06, hspace=0.34)
    scale = MapScale.of(pictures)
    for axes_row, picture in zip(grid, pictures, strict=False):
        for axes, panel in zip(axes_row, panels, strict=True):
            draw_panel(axes, picture, panel, scale)
        axes_row[0].set_ylabel(
            f"{picture.chip_id} ({picture.place})\nRMSE {picture.rmse:.1f} {AGB_UNIT}",
            color=INK,
            fontsize=9,
        )
    return figure


def panels_of(pictures: Sequence[ChipPicture]) -> tuple[str, ...]:
    """Those of ``PANELS`` that there is something to show in."""
    bounded = bool(pictures) and all(one.interval_width is not None for one in pictures)
    return PANELS if bounded else PANELS[:-1]


def panel_figure(picture: ChipPicture, panel: str, scale: MapScale) -> Figure:
    """One panel of one chip, for pages that arrange panels themselves."""
    figure = Figure(figsize=(2.6, 3.15), facecolor="white")
    axes = figure.add_axes((0.02, 0.17, 0.96, 0.75))
    draw_panel(axes, picture, panel, scale)
    return figure


def draw_panel(axes: Axes, picture: ChipPicture, panel: str, scale: MapScale) -> None:
    """Draw one of ``PANELS`` with its title, scale bar and colour bar."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(MUTED)
    if panel == "rgb":
        _draw_rgb(axes, picture)
    elif panel == "width":
        assert picture.interval_width is not None, "only drawn where there is one"
        _draw_values(
            axes, picture.interval_width, "Interval width", 0.0, scale.width_top, WIDTH_COLOURS
        )
    elif panel == "residual":
        top = scale.residual_top
        _draw_values(axes, picture.residual, "Residual", -top, top, RESIDUAL_COLOURS)
    else:
        values = picture.target if panel == "target" else picture.prediction
        _draw_values(axes, values, panel.capitalize(), 0.0, scale.agb_top, AGB_COLOURS)
    _draw_scale_bar(axes, *picture.target.shape)


def _draw_rgb(axes: Axes, picture: ChipPicture) -> None:
    if picture.rgb is None:
        axes.set_title("No clear optical image", color=INK, fontsize=9)
        axes.set_facecolor(MUTED)
        height, width = picture.target.shape
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
        return
    axes.set_title(f"Sentinel-2, {picture.rgb_month}", color=INK, fontsize=9)
    axes.imshow(picture.rgb, interpolation="none")


def _draw_values(
    axes: Axes,
    values: NDArray[np.float32],
    title: str,
    bottom: float,
    top: float,
    colours: str,
) -> None:
    axes.set_title(title, color=INK, fontsize=9)
    image = axes.imshow(values, cmap=colours, vmin=bottom, vmax=top, interpolation="none")
    beneath = axes.inset_axes((0.06, -0.075, 0.88, 0.045))
    assert axes.figure is not None
    bar = axes.figure.colorbar(
        image, cax=beneath, orientation="horizontal", extend="both" if bottom < 0 else "max"
    )
    bar.set_ticks([bottom, (bottom + top) / 2, top])
    label = _BAR_LABELS.get(colours, "AGB")
    bar.set_label(f"{label}, {AGB_UNIT}", color=INK, fontsize=8, labelpad=1)
    bar.ax.tick_params(colors=MUTED, labelsize=8, length=2, pad=1)
    bar.outline.set_visible(False)


def _draw_scale_bar(axes: Axes, height: int, width: int) -> None:
    """A bar of a round length, near a quarter of the chip's width."""
    target_m = width * PIXEL_SIZE_M / 4
    length_m = min(_BAR_LENGTHS_M, key=lambda length: abs(np.log(length / target_m)))
    length = length_m / PIXEL_SIZE_M
    left, bottom = 0.05 * width, 0.94 * height
    axes.add_patch(
        Rectangle(
            (left - 0.02 * width, bottom - 0.115 * height),
            length + 0.04 * width,
            0.145 * height,
            facecolor="#000000",
            alpha=0.55,
            linewidth=0,
        )
    )
    axes.add_patch(
        Rectangle((left, bottom - 0.005 * height), length, 0.015 * height, facecolor="#ffffff")
    )
    axes.text(
        left + length / 2,
        bottom - 0.02 * height,
        f"{length_m} m",
        color="#ffffff",
        fontsize=7,
        ha="center",
        va="bottom",
    )
