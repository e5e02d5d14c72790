"""A finished submission, whoever made it → what is wrong with it, and its score."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
from biomassters.pipelines.submission.nodes import confirm_submission, examine_submission


def create_pipeline() -> Pipeline:
    """Two nodes: the findings are saved before anything is called wrong."""
    return namespaced(
        "submission",
        Node(
            examine_submission,
            ["submission_file", "chip_table", "test_labels"],
            "submission_findings",
            name="examine_submission",
        ),
        Node(confirm_submission, "submission_findings", None, name="confirm_submission"),
    )
