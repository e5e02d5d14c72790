"""Simulated region → monthly rasters."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import simulate_region


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node: parameters → images."""
    return Pipeline(
        [
            Node(
                simulate_region,
                "params:region_simulation",
                "simulated_region",
                name="simulate_region",
            )
        ],
        namespace="region_simulation",
        prefix_datasets_with_namespace=False,
    )
