"""Chip store → weights, in the stages that ``training.stages`` lists."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import train_stages


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node: how many stages there are is a parameter, and each resumes by itself."""
    return Pipeline(
        [
            Node(
                train_stages,
                [
                    "chip_store",
                    "folds",
                    "band_scaling",
                    "checkpoints",
                    "training_events",
                    "params:network",
                    "params:training",
                ],
                ["fit_weights", "final_weights", "training_history"],
                name="train_stages",
            )
        ],
        namespace="training",
        prefix_datasets_with_namespace=False,
    )
