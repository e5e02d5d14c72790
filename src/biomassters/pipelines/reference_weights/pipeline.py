"""Reference checkpoint → weights that inference and submission use."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import convert_reference


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node, which takes the place of training."""
    return Pipeline(
        [Node(convert_reference, "reference_checkpoint", "fit_weights", name="convert_reference")],
        tags="reference_weights",
    )
