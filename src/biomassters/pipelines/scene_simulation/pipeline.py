"""Simulated region → scenes of a local catalogue."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import simulate_scenes


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node: monthly images → scenes."""
    return Pipeline(
        [
            Node(
                simulate_scenes,
                ["region_images", "params:scene_simulation"],
                "simulated_scenes@made",
                name="simulate_scenes",
            )
        ],
        namespace="scene_simulation",
        prefix_datasets_with_namespace=False,
    )
