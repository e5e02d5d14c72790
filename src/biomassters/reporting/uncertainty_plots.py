"""Plots of residuals, of the intervals' coverage and of attention."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from biomassters.chips.bands import MONTH_NAMES
from biomassters.metrics import AGB_UNIT, DensityHistogram
from biomassters.reporting.figure_style import (
    BASELINE,
    DENSITY_COLOURS,
    INK,
    LINE,
    NETWORK,
    add_legend,
    dress,
    new_figure,
)
from biomassters.uncertainty.intervals import IntervalModel

_SHOWN_SHARE = 0.9995
_FEWEST_PIXELS = 50


def residual_plot(density: DensityHistogram, intervals: IntervalModel | None) -> Figure:
    """Residuals (prediction − target) by predicted AGB: median, middle 90 %, and the interval."""
    figure = new_figure(4.6, 3.4)
    axes = figure.add_subplot()
    centres = (density.edges[:-1] + density.edges[1:]) / 2
    pixels = density.counts.sum(axis=0)
    shown = pixels >= max(_FEWEST_PIXELS, (1 - _SHOWN_SHARE) * pixels.sum())
    if shown.any():
        low, middle, high = (
            centres[shown] - _target_quantile(density, share)[shown] for share in (0.95, 0.5, 0.05)
        )
        axes.fill_between(
            centres[shown],
            low,
            high,
            color=NETWORK,
            alpha=0.25,
            linewidth=0,
            label="90 % of pixels",
        )
        axes.plot(centres[shown], middle, color=NETWORK, linewidth=1.8, label="median")
        if intervals is not None:
            lower, upper = intervals.bounds(centres[shown])
            style: dict[str, Any] = {"color": BASELINE, "linewidth": 1.2, "linestyle": "--"}
            axes.plot(centres[shown], centres[shown] - upper, label="interval", **style)
            axes.plot(centres[shown], centres[shown] - lower, **style)
        add_legend(axes, loc="best")
    axes.axhline(0, color=INK, linewidth=0.8)
    dress(axes, f"Predicted AGB, {AGB_UNIT}", f"Prediction − target, {AGB_UNIT}")
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


def _target_quantile(density: DensityHistogram, share: float) -> np.ndarray:
    """Quantile of the target in each bin of the prediction, to half a bin."""
    centres = (density.edges[:-1] + density.edges[1:]) / 2
    cumulated = density.counts.cumsum(axis=0) / np.maximum(1, density.counts.sum(axis=0))
    return np.asarray(centres[np.minimum((cumulated < share).sum(axis=0), len(centres) - 1)])


def coverage_plot(by_level: pd.DataFrame) -> Figure:
    """Measured against nominal coverage, of pixels and of chip means."""
    figure = new_figure(4.6, 3.4)
    axes = figure.add_subplot()
    nominal = 100 * by_level["level"]
    axes.plot([45, 100], [45, 100], "--", color=INK, linewidth=1, label="as promised")
    for column, colour, name in (
        ("pixel_coverage", NETWORK, "pixels"),
        ("chip_mean_coverage", BASELINE, "chip means"),
    ):
        axes.plot(
            nominal,
            100 * by_level[column],
            "o-",
            color=colour,
            markersize=4,
            linewidth=1.4,
            label=name,
        )
    axes.set(xlim=(45, 100), ylim=(45, 102))
    dress(axes, "Nominal coverage, %", "Measured on chips left out, %")
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    add_legend(axes, loc="upper left")
    return figure


def attention_plot(attention: pd.DataFrame) -> Figure:
    """Mean weight of each month at each level, in percent; months that are absent don't count."""
    table = attention.pivot_table(index="stride", columns="month", values="weight", aggfunc="mean")
    figure = new_figure(4.6, 2.7)  # no wider: the numbers must be legible on a phone
    axes = figure.add_subplot()
    values = 100 * table.reindex(columns=range(len(MONTH_NAMES))).to_numpy()
    axes.imshow(values, cmap=DENSITY_COLOURS, vmin=0, aspect="auto", interpolation="none")
    axes.set_yticks(range(len(table)), [f"{10 * stride} m" for stride in table.index])
    axes.set_xticks(range(len(MONTH_NAMES)), [name[:3] for name in MONTH_NAMES])
    top = np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "#000000" if value > 0.55 * top else "#ffffff"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour
            )
    dress(axes, "", "Features of one per")
    return figure
