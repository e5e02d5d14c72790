"""Verbs of the region simulation pipeline."""

from pathlib import Path
from typing import Any

import pandas as pd

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
