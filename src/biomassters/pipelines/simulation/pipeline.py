"""Simulated forest → raw archive."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import simulate_forest


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node: parameters → archive."""
    return Pipeline(
        [Node(simulate_forest, "params:simulation", "raw_archive", name="simulate_forest")],
        namespace="simulation",
        prefix_datasets_with_namespace=False,
    )
