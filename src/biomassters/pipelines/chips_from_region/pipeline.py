"""Images of a region + labels → raw archive."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from .nodes import cut_chips


def create_pipeline(**kwargs: Any) -> Pipeline:
    """One node: what the images hold, and which part counts, is stated as for a map."""
    return Pipeline(
        [
            Node(
                cut_chips,
                ["region_images", "label_file", "params:mapping", "params:chips_from_region"],
                "raw_archive",
                name="cut_chips",
            )
        ],
        namespace="chips_from_region",
        prefix_datasets_with_namespace=False,
    )
