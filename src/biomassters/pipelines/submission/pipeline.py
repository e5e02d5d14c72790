"""Test predictions → submission archive."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced

from .nodes import assemble_submission, draw_preview, look_at_submission


def create_pipeline() -> Pipeline:
    """The archive takes its name only when it has passed its checks; then a look at it."""
    return namespaced(
        "submission",
        Node(
            assemble_submission,
            ["test_predictions", "chip_table", "final_weights"],
            "submission",
            name="assemble_submission",
        ),
        Node(
            look_at_submission,
            ["submission", "chip_table"],
            "submission_summary",
            name="look_at_submission",
        ),
        Node(draw_preview, "test_predictions", "submission_preview", name="draw_preview"),
    )
