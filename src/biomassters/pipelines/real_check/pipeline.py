"""Weights + a labelled archive → maps, their scores chip by chip, pictures, page."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
from biomassters.pipelines.reporting.nodes import draw_example_maps

from .nodes import choose_checked_chips, compare_with_labels, predict_labelled, write_check_page


def create_pipeline() -> Pipeline:
    """The maps, then what their labels say."""
    return namespaced(
        "real_check",
        Node(
            predict_labelled,
            ["prediction_archive", "final_weights", "params:inference"],
            "checked_predictions",
            name="predict_labelled_chips",
        ),
        Node(
            compare_with_labels,
            [
                "prediction_archive",
                "checked_predictions",
                "final_weights",
                "uncertainty@place",
                "params:reporting",
            ],
            ["archive_scores", "check_scores", "check_scores_per_chip"],
            name="compare_with_labels",
        ),
        Node(
            choose_checked_chips,
            ["prediction_archive", "checked_predictions", "archive_scores", "params:reporting"],
            "checked_chips",
            name="choose_checked_chips",
        ),
        Node(draw_example_maps, "checked_chips", "check_maps", name="draw_checked_chips"),
        Node(
            write_check_page,
            ["archive_scores", "check_scores", "checked_chips", "checked_predictions"],
            "check_page",
            name="write_check_page",
        ),
    )
