"""Simulated region → monthly rasters, field plots."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import draw_plots, simulate_region


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Parameters → images → plots."""
    return Pipeline(
        [
            Node(
                simulate_region,
                "params:region_simulation",
                "region_images",
                name="simulate_region",
            ),
            Node(
                draw_plots,
                ["region_images", "params:region_simulation"],
                ["field_plots@simulated", "simulated_municipalities"],
                name="draw_plots",
            ),
        ],
        namespace="region_simulation",
        prefix_datasets_with_namespace=False,
    )
