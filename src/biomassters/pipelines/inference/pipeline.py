"""Weights + chip store → GeoTIFFs."""

from kedro.pipeline import Node, Pipeline

from .nodes import predict_held_out, predict_test


def create_pipeline() -> Pipeline:
    """Two nodes: the held-out fold, to be scored, and the test split, to be submitted."""
    return Pipeline(
        [
            Node(
                predict_held_out,
                ["chip_store", "folds", "fit_weights", "params:inference"],
                "held_out_predictions",
                name="predict_held_out_chips",
            ),
            Node(
                predict_test,
                ["chip_store", "final_weights", "params:inference"],
                "test_predictions",
                name="predict_test_chips",
            ),
        ],
        namespace="inference",
        prefix_datasets_with_namespace=False,
    )
