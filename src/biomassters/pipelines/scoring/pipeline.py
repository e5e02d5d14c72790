"""Test predictions + test labels → the challenge's score, by class and months, with coverage."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import score_test_split, write_test_page


def create_pipeline(**kwargs: Any) -> Pipeline:
    """The score, then its page; nothing that trains takes a test label."""
    return Pipeline(
        [
            Node(
                score_test_split,
                [
                    "test_predictions",
                    "test_labels",
                    "chip_table",
                    "final_weights",
                    "uncertainty@place",
                ],
                ["split_scores", "test_scores", "test_scores_per_chip"],
                name="score_test_split",
            ),
            Node(
                write_test_page,
                ["split_scores", "test_scores", "test_predictions", "params:reporting"],
                "test_page",
                name="write_test_page",
            ),
        ],
        namespace="scoring",
        prefix_datasets_with_namespace=False,
    )
