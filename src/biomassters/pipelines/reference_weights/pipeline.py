"""Reference checkpoint → weights that inference and submission use."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import convert_reference


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node, which takes the place of training."""
    node = Node(
        convert_reference,
        ["reference_checkpoint", "params:reference_held_out_fold"],
        ["fit_weights", "final_weights", "training_history"],
        name="convert_reference",
    )
    return Pipeline([node], namespace="reference_weights", prefix_datasets_with_namespace=False)
