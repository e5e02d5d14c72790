"""Still plots: predicted against target, scores by class, learning curve."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from biomassters.metrics import AGB_UNIT, DensityHistogram
from biomassters.reporting.figure_style import (
    BASELINE,
    DENSITY_COLOURS,
    INK,
    LINE,
    MUTED,
    NETWORK,
    add_legend,
    dress,
    new_figure,
)
from biomassters.reporting.history import curves_of

_LINE_STYLES = {"solid": "-", "dash": "--", "dot": ":"}
_SHOWN_SHARE = 0.9995  # of the pixels, along each axis
_FEWEST_FOR_A_MEAN = 0.0002  # of the pixels, in one bin of the target


def density_plot(density: DensityHistogram) -> Figure:
    """Pixels by target and prediction, with the 1:1 line and the mean prediction."""
    figure = new_figure(4.6, 3.7)
    axes = figure.add_subplot()
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
        bar = figure.colorbar(image, ax=axes, shrink=0.85, format="%g")
        bar.set_label("Pixels, %", color=INK, fontsize=9)
        bar.ax.tick_params(colors=MUTED, labelsize=8)
        bar.ax.minorticks_off()
        bar.outline.set_visible(False)
    axes.plot([0, top], [0, top], "--", color=INK, linewidth=1, label="prediction = target")
    centres, means = _mean_prediction(density)
    axes.plot(centres, means, color=BASELINE, linewidth=1.8, label="mean prediction")
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    dress(axes, f"Target AGB, {AGB_UNIT}", f"Predicted AGB, {AGB_UNIT}")
    add_legend(axes, loc="upper left")
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


def _mean_prediction(density: DensityHistogram) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the target's bins and the mean prediction in each, to half a bin's width."""
    edges = density.edges
    centres = (edges[:-1] + edges[1:]) / 2
    pixels = density.counts.sum(axis=1)
    enough = pixels > max(1, _FEWEST_FOR_A_MEAN * density.counts.sum())
    enough[-1] = False  # holds all targets above, however far
    return centres[enough], (density.counts @ centres)[enough] / pixels[enough]


def class_plot(by_class: pd.DataFrame) -> Figure:
    """RMSE and bias by biomass class of the target."""
    figure = new_figure(4.6, 3.2)
    axes = figure.add_subplot()
    places = np.arange(len(by_class))
    axes.bar(places - 0.2, by_class["rmse"], 0.38, color=NETWORK, label="RMSE")
    axes.bar(places + 0.2, by_class["bias"], 0.38, color=BASELINE, label="bias")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xticks(places, by_class["biomass_class"])
    dress(axes, f"Target AGB, {AGB_UNIT}", f"Error, {AGB_UNIT}")
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    add_legend(axes, loc="best")
    return figure


def learning_plot(history: pd.DataFrame) -> Figure:
    """Losses and RMSEs over the epochs."""
    figure = new_figure(4.6, 3.2)
    axes = figure.add_subplot()
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
    dress(axes, "Epoch", AGB_UNIT)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    if axes.lines:
        axes.set_ylim(bottom=0)
        add_legend(axes, loc="best")
    return figure
