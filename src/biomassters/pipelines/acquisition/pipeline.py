"""Object storage, mirror or tar → raw archive."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import confirm_archive, fetch_archive


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Two nodes: the table of what came is saved before anything is called wrong."""
    return Pipeline(
        [
            Node(
                fetch_archive,
                ["raw_folder", "params:acquisition"],
                "acquisition_table",
                name="fetch_archive",
            ),
            Node(confirm_archive, "acquisition_table", None, name="confirm_archive"),
        ],
        namespace="acquisition",
        prefix_datasets_with_namespace=False,
    )
