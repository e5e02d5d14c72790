"""Still plots: predicted against target, residuals, scores by class, coverage, attention, learning.

Import it where a plot is drawn: matplotlib would slow every start of the command line.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_NAMES
from biomassters.metrics import AGB_UNIT, DensityHistogram
from biomassters.reporting.charts import curves_of
from biomassters.reporting.figure_style import (
    BASELINE,
    DENSITY_COLOURS,
    INK,
    LINE,
    MUTED,
    NETWORK,
    add_colour_bar,
    add_legend,
    dress,
    new_figure,
)
from biomassters.uncertainty.intervals import IntervalModel

_LINE_STYLES = {"solid": "-", "dash": "--", "dot": ":"}
_SHOWN_SHARE = 0.9995  # of the pixels, along each axis
_FEWEST_FOR_A_MEAN = 0.0002  # of the pixels, in one bin of the target
# Okabe & Ito (2008), "Color Universal Design"; folds beyond the seventh begin anew.
_FOLD_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_FEWEST_PIXELS = 50  # in one bin of the prediction, for its residuals


def _plot(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    figure = new_figure(width_in, height_in)
    return figure, figure.add_subplot()


def density_plot(density: DensityHistogram) -> Figure:
    """Pixels by target and prediction, with the 1:1 line and the mean prediction."""
    figure, axes = _plot(4.6, 3.7)
    edges, counts = density.edges, density.counts
    top = _shown_top(density)
    percent = np.where(counts > 0, 100 * counts / max(1, counts.sum()), np.nan)
    if counts.any():
        image = axes.imshow(
            percent.T,
            origin="lower",
            extent=(0.0, edges[-1], 0.0, edges[-1]),
            cmap=DENSITY_COLOURS,
            norm=LogNorm(np.nanmin(percent), np.nanmax(percent)),
            interpolation="none",
        )
        bar = add_colour_bar(axes, image, "Pixels, %", shrink=0.85, format="%g")
        bar.ax.minorticks_off()
    axes.plot([0, top], [0, top], "--", color=INK, linewidth=1, label="prediction = target")
    centres, means = _mean_prediction(density)
    axes.plot(centres, means, color=BASELINE, linewidth=1.8, label="mean prediction")
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    dress(axes, f"Target AGB, {AGB_UNIT}", f"Predicted AGB, {AGB_UNIT}")
    add_legend(axes, loc="upper left")
    return figure


def fold_map(places: NDArray[np.float64], folds: Sequence[int | None]) -> Figure:
    """Where the chips of each fold lie.

    Args:
        places: float64 [N, 4], west, south, east, north in metres, as ``chip_places`` gives them.
        folds: Of each chip; None for one that is in no fold.
    """
    from matplotlib.patches import Rectangle

    figure, axes = _plot(5.2, 4.2)
    west, south = places[:, :2].min(axis=0)
    for place, fold in zip(places, folds, strict=True):
        left, bottom, right, top = (place - [west, south, west, south]) / 1000
        colour = LINE if fold is None else _FOLD_COLOURS[fold % len(_FOLD_COLOURS)]
        axes.add_patch(
            Rectangle((left, bottom), right - left, top - bottom, facecolor=colour,
                      edgecolor="white", linewidth=0.3)
        )  # fmt: skip
    axes.autoscale_view()
    axes.set_aspect("equal")
    dress(axes, "km east", "km north")
    known = sorted({fold for fold in folds if fold is not None})
    marks = [(f"fold {fold}", _FOLD_COLOURS[fold % len(_FOLD_COLOURS)]) for fold in known]
    marks += [("in no fold", LINE)] if None in folds else []
    for label, colour in marks:
        axes.scatter([], [], marker="s", color=colour, label=label)
    add_legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _shown_top(density: DensityHistogram) -> float:
    """Round upper end of the axes that leaves out only the rarest pixels."""
    total = density.counts.sum()
    if not total:
        return density.top_mg_per_ha
    ends = []
    for axis in (0, 1):
        share = density.counts.sum(axis=axis).cumsum() / total
        ends.append(density.edges[1 + int(np.searchsorted(share, _SHOWN_SHARE))])
    return float(min(density.top_mg_per_ha, np.ceil(max(ends) / 50) * 50))


def _centres(density: DensityHistogram) -> NDArray[np.float64]:
    centres: NDArray[np.float64] = (density.edges[:-1] + density.edges[1:]) / 2
    return centres


def _mean_prediction(
    density: DensityHistogram,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of the target's bins and the mean prediction in each, to half a bin's width."""
    centres, pixels = _centres(density), density.counts.sum(axis=1)
    enough = pixels > max(1, _FEWEST_FOR_A_MEAN * density.counts.sum())
    enough[-1] = False  # holds all targets above, however far
    return centres[enough], (density.counts @ centres)[enough] / pixels[enough]


def residual_plot(density: DensityHistogram, intervals: IntervalModel | None) -> Figure:
    """Residuals (prediction − target) by predicted AGB: median, middle 90 %, and the interval."""
    figure, axes = _plot(4.6, 3.4)
    pixels = density.counts.sum(axis=0)
    shown = pixels >= max(_FEWEST_PIXELS, (1 - _SHOWN_SHARE) * pixels.sum())
    if shown.any():
        centres = _centres(density)[shown]
        low, middle, high = (
            centres - _target_quantile(density, share)[shown] for share in (0.95, 0.5, 0.05)
        )
        band: dict[str, Any] = {"color": NETWORK, "alpha": 0.25, "linewidth": 0}
        axes.fill_between(centres, low, high, label="90 % of pixels", **band)
        axes.plot(centres, middle, color=NETWORK, linewidth=1.8, label="median")
        if intervals is not None:
            lower, upper = intervals.bounds(centres)
            style: dict[str, Any] = {"color": BASELINE, "linewidth": 1.2, "linestyle": "--"}
            axes.plot(centres, centres - upper, label="interval", **style)
            axes.plot(centres, centres - lower, **style)
        add_legend(axes, loc="best")
    axes.axhline(0, color=INK, linewidth=0.8)
    dress(axes, f"Predicted AGB, {AGB_UNIT}", f"Prediction − target, {AGB_UNIT}", grid="y")
    return figure


def _target_quantile(density: DensityHistogram, share: float) -> NDArray[np.float64]:
    """Quantile of the target in each bin of the prediction, to half a bin."""
    centres = _centres(density)
    cumulated = density.counts.cumsum(axis=0) / np.maximum(1, density.counts.sum(axis=0))
    return centres[np.minimum((cumulated < share).sum(axis=0), len(centres) - 1)]


def class_plot(by_class: pd.DataFrame) -> Figure:
    """RMSE and bias by biomass class of the target."""
    figure, axes = _plot(4.6, 3.2)
    places = np.arange(len(by_class))
    axes.bar(places - 0.2, by_class["rmse"], 0.38, color=NETWORK, label="RMSE")
    axes.bar(places + 0.2, by_class["bias"], 0.38, color=BASELINE, label="bias")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xticks(places, by_class["biomass_class"])
    dress(axes, f"Target AGB, {AGB_UNIT}", f"Error, {AGB_UNIT}", grid="y")
    add_legend(axes, loc="best")
    return figure


def learning_plot(history: pd.DataFrame) -> Figure:
    """Losses and RMSEs over the epochs."""
    figure, axes = _plot(4.6, 3.2)
    for curve in curves_of(history):
        axes.plot(
            curve.epochs,
            curve.values,
            marker="o",
            linestyle=_LINE_STYLES[curve.dash],
            color=NETWORK if curve.held_out else BASELINE,
            markersize=3 if len(curve.epochs) < 50 else 0,
            linewidth=1.5,
            label=curve.name,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, "Epoch", AGB_UNIT, grid="y")
    if axes.lines:
        axes.set_ylim(bottom=0)
        add_legend(axes, loc="best")
    return figure


def coverage_plot(by_level: pd.DataFrame) -> Figure:
    """Measured against nominal coverage, of pixels and of chip means."""
    figure, axes = _plot(4.6, 3.4)
    axes.plot([45, 100], [45, 100], "--", color=INK, linewidth=1, label="nominal")
    style: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 1.4}
    for column, colour, name in (
        ("pixel_coverage", NETWORK, "pixels"),
        ("chip_mean_coverage", BASELINE, "chip means"),
    ):
        nominal, measured = 100 * by_level["level"], 100 * by_level[column]
        axes.plot(nominal, measured, color=colour, label=name, **style)
    axes.set(xlim=(45, 100), ylim=(45, 102))
    dress(axes, "Nominal coverage, %", "Measured on chips left out, %", grid="both")
    add_legend(axes, loc="upper left")
    return figure


def attention_plot(attention: pd.DataFrame) -> Figure:
    """Mean weight of each month at each level, in percent; months that are absent don't count."""
    table = attention.pivot_table(index="stride", columns="month", values="weight", aggfunc="mean")
    figure, axes = _plot(4.6, 2.7)  # no wider: the numbers must be legible on a phone
    values = 100 * table.reindex(columns=range(len(MONTH_NAMES))).to_numpy()
    axes.imshow(values, cmap=DENSITY_COLOURS, vmin=0, aspect="auto", interpolation="none")
    axes.set_yticks(range(len(table)), [f"{10 * stride} m" for stride in table.index])
    axes.set_xticks(range(len(MONTH_NAMES)), [name[:3] for name in MONTH_NAMES])
    middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "#000000" if value > 0.55 * np.nanmax(values) else "#ffffff"
            axes.text(column, row, f"{value:.0f}", color=colour, **middle)
    dress(axes, "", "Features of one per")
    return figure
