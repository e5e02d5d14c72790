"""Held-out predictions + labels → intervals → maps of three bands, carbon."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced

from .nodes import bound_maps, calibrate_uncertainty, count_carbon


def create_pipeline() -> Pipeline:
    """Calibration first; then the bounds and the carbon of held-out and test chips."""
    return namespaced(
        "uncertainty",
        Node(
            calibrate_uncertainty,
            ["held_out_predictions", "chip_store", "fit_weights", "folds", "params:uncertainty"],
            ["uncertainty@json", "coverage_by_level", "coverage_by_class", "coverage_per_chip"],
            name="calibrate_uncertainty",
        ),
        Node(
            bound_maps,
            ["held_out_predictions", "fit_weights", "uncertainty@json"],
            "held_out_bounds",
            name="add_intervals_to_held_out_maps",
        ),
        Node(
            bound_maps,
            ["test_predictions", "final_weights", "uncertainty@json"],
            "test_bounds",
            name="add_intervals_to_test_maps",
        ),
        Node(
            count_carbon,
            [
                "held_out_predictions",
                "test_predictions",
                "fit_weights",
                "final_weights",
                "chip_store",
                "uncertainty@json",
                "coverage_per_chip",
                "folds",
                "params:uncertainty",
            ],
            ["carbon", "carbon_per_chip"],
            name="count_carbon",
        ),
    )
