"""Field plots + a map, or covariates → scores of the map, totals, totals by area, page."""

from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
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


def create_pipeline() -> Pipeline:
    """Everything is read and checked by the first node; the others are what ``plots`` estimates."""
    return namespaced(
        "plots",
        Node(
            combine_plots,
            ["field_plots@file", "region_map@plots", "params:plots"],
            ["inventory", "plots_with_map"],
            name="combine_plots",
        ),
        Node(estimate_totals, ["inventory", "params:plots"], "plot_totals", name="estimate_whole"),
        Node(
            estimate_areas,
            ["inventory", "params:plots"],
            "plot_totals_by_area",
            name="estimate_by_area",
        ),
        Node(draw_estimates, "plot_totals", "plot_figure", name="draw_inventory"),
        Node(
            render_inventory,
            ["plot_totals", "plot_totals_by_area", "plots_with_map"],
            "plot_page",
            name="render_page",
        ),
    )
