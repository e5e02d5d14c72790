"""Weights + a labelled archive → maps, their scores chip by chip, pictures, page."""

from kedro.pipeline import Node, Pipeline

from .nodes import (
    choose_checked_chips,
    compare_with_labels,
    draw_checked_chips,
    predict_labelled,
    write_check_page,
)


def create_pipeline() -> Pipeline:
    """The maps, then what their labels say."""
    return Pipeline(
        [
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
            Node(draw_checked_chips, "checked_chips", "check_maps", name="draw_checked_chips"),
            Node(
                write_check_page,
                ["archive_scores", "check_scores", "checked_chips", "checked_predictions"],
                "check_page",
                name="write_check_page",
            ),
        ],
        namespace="real_check",
        prefix_datasets_with_namespace=False,
    )
