"""Chip store → weights."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import fit


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node, which resumes where an interrupted run stopped."""
    return Pipeline(
        [
            Node(
                fit,
                [
                    "chip_store",
                    "folds",
                    "band_scaling",
                    "params:network",
                    "params:training",
                    "checkpoints",
                ],
                ["fit_weights", "last_weights", "training_history"],
                name="fit",
            )
        ],
        tags="training",
    )
