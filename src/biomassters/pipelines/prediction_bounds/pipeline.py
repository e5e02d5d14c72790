"""Maps of any archive → maps of three bands, with intervals that an earlier run calibrated."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
from biomassters.pipelines.uncertainty.nodes import bound_archive


def create_pipeline() -> Pipeline:
    """One node: ``--pipelines prediction,prediction_bounds``."""
    return namespaced(
        "prediction",
        Node(
            bound_archive,
            ["archive_predictions", "final_weights", "uncertainty@json"],
            "archive_bounds",
            name="add_intervals_to_archive_maps",
        ),
    )
