"""Chip store → weights, in two stages that are one pipeline used twice."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import plan_finetuning, plan_fit, train_stage


def create_stage(
    name: str, plan: Node, train_name: str, options: set[str], **outputs: str
) -> Pipeline:
    """One stage: a plan → weights. It resumes where an interrupted run stopped.

    Args:
        name: The namespace of its plan, checkpoints and event files.
        plan: Says what the stage starts from.
        train_name: What its training is called: no two nodes have one name.
        options: Parameters that the plan takes.
        **outputs: What its weights and history are called outside.
    """
    inputs = ["plan", "chip_store", "folds", "checkpoints", "events"]
    train = Node(train_stage, inputs, ["weights", "history"], name=train_name)
    given = {"chip_store", "folds", *plan.inputs} - options
    return Pipeline(
        [plan, train],
        namespace=f"training.{name}",
        inputs=given,
        outputs=outputs,
        parameters=options,
    )


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Fit on the training folds → fine-tune on all labelled chips."""
    options = {"params:network", "params:training"}
    fit = Node(plan_fit, ["band_scaling", *sorted(options)], "plan", name="plan_training")
    stages = create_stage(
        "fit",
        fit,
        "train_network",
        options,
        weights="fit_weights",
        history="training_history",
    )
    options = {"params:training", "params:finetuning"}
    finetune = Node(
        plan_finetuning,
        ["fit_weights", "params:training", "params:finetuning"],
        "plan",
        name="plan_finetuning",
    )
    stages += create_stage(
        "finetune",
        finetune,
        "finetune_network",
        options,
        weights="final_weights",
        history="finetuning_history",
    )
    return stages
