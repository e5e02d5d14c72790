"""Simulated region → monthly rasters, field plots."""

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
from biomassters.simulation.options import RegionSimulationOptions
from biomassters.simulation.simulated_plots import simulate_plots
from biomassters.simulation.simulated_region import SimulatedRegion


def simulate_region(region_simulation: RegionSimulationOptions) -> SimulatedRegion:
    """Parameters turned into a region, which is made while it is written."""
    return SimulatedRegion(region_simulation)


def draw_plots(
    region: str, region_simulation: RegionSimulationOptions
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Field plots by three designs with their strata, and municipalities."""
    return simulate_plots(Path(region), region_simulation.plots, region_simulation.seed)


def create_pipeline() -> Pipeline:
    """Parameters → images → plots."""
    return namespaced(
        "region_simulation",
        Node(simulate_region, "params:region_simulation", "region_images", name="simulate_region"),
        Node(
            draw_plots,
            ["region_images", "params:region_simulation"],
            ["field_plots@simulated", "simulated_municipalities"],
            name="draw_plots",
        ),
    )
