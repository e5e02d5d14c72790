"""Chip store → weights, in two stages that are one pipeline used twice."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import plan_finetuning, plan_fit, train_stage


def create_stage(name: str, weights: str, last_weights: str, history: str) -> Pipeline:
    """One stage: a plan → weights. It resumes where an interrupted run stopped.

    Args:
        name: The namespace of its plan, checkpoints and event files.
        weights: What its best weights are called.
        last_weights: What its last weights are called.
        history: What its history is called.
    """
    inputs = ["plan", "chip_store", "folds", "checkpoints", "events"]
    node = Node(train_stage, inputs, ["weights", "last_weights", "history"], name="train")
    return Pipeline(
        [node],
        namespace=name,
        inputs={"chip_store", "folds"},
        outputs={"weights": weights, "last_weights": last_weights, "history": history},
    )


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Fit on the training folds → fine-tune on all labelled chips."""
    plans = Pipeline(
        [
            Node(
                plan_fit,
                ["band_scaling", "params:network", "params:training"],
                "fit.plan",
                name="plan_fit",
            ),
            Node(
                plan_finetuning,
                ["fit_weights", "params:training", "params:finetuning"],
                "finetune.plan",
                name="plan_finetuning",
            ),
        ]
    )
    stages = create_stage("fit", "fit_weights", "last_weights", "training_history")
    stages += create_stage(
        "finetune", "final_weights", "finetune.last_weights", "finetuning_history"
    )
    return Pipeline(plans + stages, tags="training")
