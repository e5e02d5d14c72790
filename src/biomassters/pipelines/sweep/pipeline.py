"""Chip store + ranges of parameters → trials, the best of them, a page with what matters."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import render_sweep_page, run_trials, tell_of_trials


def create_pipeline(**kwargs: Any) -> Pipeline:
    """The trials in one node, which resumes by itself; then what came of them."""
    return Pipeline(
        [
            Node(
                run_trials,
                [
                    "chip_store",
                    "folds",
                    "band_scaling",
                    "sweep_work",
                    "params:network",
                    "params:training",
                    "params:sweep",
                ],
                "sweep_study",
                name="run_trials",
            ),
            Node(
                tell_of_trials, "sweep_study", ["sweep_trials", "sweep_best"], name="tell_of_trials"
            ),
            Node(render_sweep_page, "sweep_study", "sweep_page", name="render_sweep_page"),
        ],
        namespace="sweep",
        prefix_datasets_with_namespace=False,
    )
