"""Two maps with intervals → map of change, totals, totals by area, picture."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import compare_maps


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node: the change map lies at a place of its own, the rest beside it."""
    return Pipeline(
        [
            Node(
                compare_maps,
                ["map_before", "region_map@after", "change_map", "params:change", "params:plots"],
                ["change_totals", "change_by_area", "change_quicklook"],
                name="compare_maps",
            )
        ],
        namespace="change",
        prefix_datasets_with_namespace=False,
    )
