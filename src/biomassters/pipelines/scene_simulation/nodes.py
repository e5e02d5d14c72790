"""Verbs of the scene simulation pipeline."""

from biomassters.datasets.region_images import SceneSimulation
from biomassters.simulation.options import SceneSimulationOptions


def simulate_scenes(images: str, scene_simulation: SceneSimulationOptions) -> SceneSimulation:
    """Monthly images to be taken apart while they are written."""
    return SceneSimulation(images, scene_simulation)
