"""Verbs of the region simulation pipeline."""

from biomassters.simulation.region import SimulatedRegion
from biomassters.simulation.region_options import RegionSimulationOptions


def simulate_region(region_simulation: RegionSimulationOptions) -> SimulatedRegion:
    """Parameters turned into a region, which is made while it is written."""
    return SimulatedRegion(region_simulation)
