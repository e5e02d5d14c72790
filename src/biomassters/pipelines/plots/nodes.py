"""Verbs of the plots pipeline."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from biomassters.plots.inventory import Inventory, estimate_areas, estimate_totals, take_inventory
from biomassters.plots.options import PlotsOptions
from biomassters.plots.plot_page import draw_estimates, render_inventory
from biomassters.plots.plot_table import read_areas, read_plots, read_strata


def combine_plots(
    plots_file: Path, plot_map: str, plots: PlotsOptions
) -> tuple[Inventory, pd.DataFrame]:
    """Plots with the map's values under them and what is known of areas; the plots as a table."""
    inventory = take_inventory(
        read_plots(plots_file, plots),
        Path(plot_map),
        None if plots.areas is None else read_areas(Path(plots.areas), plots),
        None if plots.strata is None else read_strata(Path(plots.strata), plots),
        plots,
    )
    return inventory, inventory.plots


def estimate_whole(inventory: Inventory, plots: PlotsOptions) -> dict[str, Any]:
    """Every estimator of the whole, and the map's scores."""
    return estimate_totals(inventory, plots)


def estimate_by_area(inventory: Inventory, plots: PlotsOptions) -> pd.DataFrame:
    """Every estimator of every area."""
    return estimate_areas(inventory, plots)


def draw_inventory(account: dict[str, Any]) -> Figure:
    """Estimators side by side."""
    return draw_estimates(account)


def render_page(account: dict[str, Any], areas: pd.DataFrame, plots: pd.DataFrame) -> str:
    """The page."""
    return render_inventory(account, areas, plots)
