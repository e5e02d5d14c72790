"""Archive with a few labelled chips + weights → weights of that place, errors of chips left out."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import data_engineering

from .nodes import adapt_weights, score_left_out


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Data engineering, then the fine-tuning."""
    fine_tuning = Pipeline(
        [
            Node(
                adapt_weights,
                [
                    "chip_store",
                    "folds",
                    "checkpoints",
                    "training_events",
                    "params:training",
                    "params:adapt",
                ],
                ["fit_weights", "final_weights", "training_history"],
                name="adapt_weights",
            ),
            Node(
                score_left_out,
                ["training_history", "folds"],
                "left_out_scores",
                name="score_left_out",
            ),
        ],
        namespace="adapt",
        prefix_datasets_with_namespace=False,
    )
    return data_engineering.create_pipeline() + fine_tuning
