"""Raw archive → chip table → statistics, scaling, folds → chip store."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import assign_folds, choose_scaling, inspect_chips, pack_chips, summarise_chips

_OPTIONS = "params:data_engineering"


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Five nodes; only the first and the last touch pixels."""
    return Pipeline(
        [
            Node(
                inspect_chips,
                ["raw_archive", _OPTIONS],
                ["chip_table", "band_statistics"],
                name="inspect_chips",
            ),
            Node(summarise_chips, "chip_table", "chip_summary", name="summarise_chips"),
            Node(
                choose_scaling,
                ["band_statistics", _OPTIONS],
                "band_scaling",
                name="choose_scaling",
            ),
            Node(assign_folds, ["chip_table", _OPTIONS], "folds", name="assign_folds"),
            Node(
                pack_chips,
                ["raw_archive", "chip_table", _OPTIONS],
                "chip_store",
                name="pack_chips",
            ),
        ],
        tags="data_engineering",
    )
