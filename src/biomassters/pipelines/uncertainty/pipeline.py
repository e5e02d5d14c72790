"""Held-out predictions + labels → intervals → maps of three bands."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import bound_maps, calibrate_uncertainty


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Calibration first; then the bounds of the held-out and of the test chips."""
    return Pipeline(
        [
            Node(
                calibrate_uncertainty,
                ["held_out_predictions", "chip_store", "params:uncertainty"],
                ["uncertainty", "coverage_by_level", "coverage_by_class", "coverage_per_chip"],
                name="calibrate_uncertainty",
            ),
            Node(
                bound_maps,
                ["held_out_predictions", "uncertainty"],
                "held_out_bounds",
                name="bound_held_out",
            ),
            Node(
                bound_maps,
                ["test_predictions", "uncertainty"],
                "test_bounds",
                name="bound_test",
            ),
        ],
        tags="uncertainty",
    )
