"""Simulated region → scenes of a local catalogue."""

from kedro.pipeline import Node, Pipeline

from biomassters.datasets.region_images import SceneSimulation
from biomassters.pipelines import namespaced
from biomassters.simulation.options import SceneSimulationOptions


def simulate_scenes(images: str, scene_simulation: SceneSimulationOptions) -> SceneSimulation:
    """Monthly images to be taken apart while they are written."""
    return SceneSimulation(images, scene_simulation)


def create_pipeline() -> Pipeline:
    """One node: monthly images → scenes."""
    return namespaced(
        "scene_simulation",
        Node(
            simulate_scenes,
            ["region_images", "params:scene_simulation"],
            "simulated_scenes@made",
            name="simulate_scenes",
        ),
    )
