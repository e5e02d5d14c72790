"""The page of an inventory: map alone, plots alone and both together, side by side."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from biomassters.metrics import AGB_UNIT
from biomassters.reporting.figure_style import (
    BASELINE,
    INK,
    MUTED,
    NETWORK,
    add_legend,
    dress,
    new_figure,
)
from biomassters.reporting.pages import embedded, records, render

NAMES = {
    "map_only": "Map alone",
    "plots_only": "Plots alone",
    "difference": "Map, corrected by the plots (difference)",
    "post_stratified": "Plots in classes of the map (post-stratified)",
    "greg": "Plots and covariates (generalised regression)",
    "model_based": "Model of the plots (no probability sample)",
    "hybrid": "Model of the plots, sampled covariates",
    "synthetic": "Synthetic",
    "model_assisted": "Synthetic, corrected by the area's plots",
    "extended_synthetic": "Extended synthetic",
    "eblup": "EBLUP",
    "synthetic_mixed_model": "Synthetic (mixed model)",
}
_SHOWN_AREAS = 40


def draw_estimates(account: dict[str, Any]) -> Figure:
    """Every estimator's mean and interval, one below the other."""
    rows = list(account["estimates"].values())
    figure = new_figure(7.4, 0.9 + 0.5 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(rows)):
        chosen = row["estimator"] == account["chosen"]
        colour = BASELINE if row["estimator"] == "map_only" else NETWORK
        mean, lower, upper = (
            row[key] for key in ("mean_agb_mg_per_ha", "lower_mg_per_ha", "upper_mg_per_ha")
        )
        if lower is not None:
            axes.plot([lower, upper], [place, place], color=colour, linewidth=3 if chosen else 1.8)
        axes.plot(mean, place, "o", color=colour, markersize=8 if chosen else 6)
        axes.annotate(
            f"{mean:.1f}", (mean, place), (0, 7), textcoords="offset points", ha="center",
            fontsize=8, color=INK, fontweight="bold" if chosen else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [NAMES[row["estimator"]] for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    dress(axes, f"Mean aboveground biomass, {AGB_UNIT}, with {account['level']:.0%} interval")
    axes.grid(axis="x", color=MUTED, alpha=0.25, linewidth=0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    return figure


def draw_validation(plots: pd.DataFrame) -> Figure:
    """The map's value at each plot against the plot's own, with the 1:1 line."""
    figure = new_figure(4.6, 4.2)
    axes = figure.add_subplot()
    x, y = plots["agb"].to_numpy(), plots["map"].to_numpy()
    top = float(np.nanmax([x.max(), y.max(), 1.0])) * 1.04
    axes.plot([0, top], [0, top], "--", color=INK, linewidth=1)
    size = 16 if len(x) < 1000 else 3
    axes.scatter(x, y, size, color=NETWORK, alpha=0.55, linewidths=0, rasterized=len(x) > 3000)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    dress(axes, f"Plot, {AGB_UNIT}", f"Map under the plot, {AGB_UNIT}")
    return figure


def draw_areas(areas: pd.DataFrame, level: float) -> Figure:
    """The chosen estimate of each area with its interval, and the map's mean."""
    chosen = areas[areas["chosen"]].head(_SHOWN_AREAS).iloc[::-1]
    figure = new_figure(7.4, 1.0 + 0.24 * len(chosen))
    axes = figure.add_subplot()
    places = np.arange(len(chosen))
    axes.hlines(
        places, chosen["lower_mg_per_ha"].astype(float), chosen["upper_mg_per_ha"].astype(float),
        color=NETWORK, linewidth=1.8,
    )  # fmt: skip
    axes.plot(
        chosen["mean_agb_mg_per_ha"], places, "o", color=NETWORK, markersize=5, label="estimate"
    )
    of_map = areas[areas["estimator"] == "map_only"].set_index("area")["mean_agb_mg_per_ha"]
    if len(of_map):
        axes.plot(
            of_map.loc[chosen["area"]], places, "x", color=BASELINE, markersize=6, label="map alone"
        )
        add_legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    labels = [
        f"{row.area} ({row.plots_in_area})"
        for row in chosen[["area", "plots_in_area"]].itertuples(index=False)
    ]
    axes.set_yticks(places, labels)
    dress(axes, f"Mean aboveground biomass, {AGB_UNIT}, with {level:.0%} interval")
    axes.grid(axis="x", color=MUTED, alpha=0.25, linewidth=0.6)
    return figure


def render_inventory(account: dict[str, Any], areas: pd.DataFrame, plots: pd.DataFrame) -> str:
    """The page, which fetches nothing."""
    figures = {"estimates": (draw_estimates(account), "Mean biomass and interval by estimator")}
    if account["validation"] is not None:
        text = "Biomass of the map against that of the plots"
        figures["validation"] = (draw_validation(plots), text)
    chosen = areas[areas["chosen"]] if len(areas) else areas
    if len(chosen):
        text = "Biomass of each area with its interval"
        figures["areas"] = (draw_areas(areas, account["level"]), text)
    return render(
        "plots", "plots.html.j2", account=account, areas=records(chosen),
        shown_areas=_SHOWN_AREAS, names=NAMES, figures=embedded(figures),
    )  # fmt: skip
