"""Weights + any archive → GeoTIFFs, without labels, folds or a store."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import predict_archive


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node."""
    return Pipeline(
        [
            Node(
                predict_archive,
                ["prediction_archive", "final_weights", "params:inference"],
                "archive_predictions",
                name="predict_archive",
            )
        ],
        namespace="prediction",
        prefix_datasets_with_namespace=False,
    )
