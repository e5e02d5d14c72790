"""Test predictions → submission archive."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import assemble_submission


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node; the archive takes its name only when it has passed its checks."""
    return Pipeline(
        [
            Node(
                assemble_submission,
                ["test_predictions", "chip_table"],
                "submission",
                name="assemble_submission",
            )
        ],
        tags="submission",
    )
