"""Chip store + ranges of parameters → trials, the best of them, a page with what matters."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import report_trials, run_trials


def create_pipeline(**kwargs: Any) -> Pipeline:
    """The trials in one node, which resumes by itself; then what came of them."""
    data = ["chip_store", "folds", "band_scaling", "sweep_work"]
    options = ["params:network", "params:training", "params:sweep"]
    found = ["sweep_trials", "sweep_best", "sweep_page"]
    return Pipeline(
        [
            Node(run_trials, [*data, *options], "sweep_study", name="run_trials"),
            Node(report_trials, "sweep_study", found, name="report_trials"),
        ],
        namespace="sweep",
        prefix_datasets_with_namespace=False,
    )
