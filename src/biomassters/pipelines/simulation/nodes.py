"""Verbs of the simulation pipeline."""

from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips


def simulate_forest(simulation: SimulationOptions) -> SimulatedChips:
    """Parameters turned into chips, which are made while the archive is written."""
    return SimulatedChips(simulation)
