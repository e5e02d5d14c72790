"""Verbs of the region simulation pipeline."""

from biomassters.simulation.options import RegionSimulationOptions
from biomassters.simulation.simulated_region import SimulatedRegion


def simulate_region(region_simulation: RegionSimulationOptions) -> SimulatedRegion:
    """Parameters turned into a region, which is made while it is written."""
    return SimulatedRegion(region_simulation)
