"""Simulated forest → raw archive."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips


def simulate_forest(simulation: SimulationOptions) -> SimulatedChips:
    """Parameters turned into chips, which are made while the archive is written."""
    return SimulatedChips(simulation)


def create_pipeline() -> Pipeline:
    """One node: parameters → archive."""
    return namespaced(
        "simulation",
        Node(simulate_forest, "params:simulation", "raw_archive", name="simulate_forest"),
    )
