"""Two maps with intervals → map of change, totals, totals by area, picture."""

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure

from biomassters.pipelines import namespaced
from biomassters.plots.change import (
    draw_change,
    settle_correlation,
    summarize_change,
    total_change,
    write_change,
)
from biomassters.plots.options import ChangeOptions, PlotsOptions
from biomassters.plots.plot_table import read_areas, read_plots


def compare_maps(
    map_before: str, map_after: str, change_map: str, change: ChangeOptions, plots: PlotsOptions
) -> tuple[dict[str, Any], pd.DataFrame, Figure]:
    """The map of change, its totals as a whole and by area, and a picture."""
    before, after, place = Path(map_before), Path(map_after), Path(change_map)
    areas = None if change.areas is None else read_areas(Path(change.areas), plots)
    table = None if change.plots is None else read_plots(Path(change.plots), plots)
    correlation, at_plots = settle_correlation(before, after, table, change)
    write_change(before, after, place, correlation, change)
    totals = total_change(place, areas, change)
    return summarize_change(totals, correlation, at_plots, change), totals, draw_change(place)


def create_pipeline() -> Pipeline:
    """One node: the change map lies at a place of its own, the rest beside it."""
    return namespaced(
        "change",
        Node(
            compare_maps,
            ["map_before", "region_map@after", "change_map", "params:change", "params:plots"],
            ["change_totals", "change_by_area", "change_quicklook"],
            name="compare_maps",
        ),
    )
