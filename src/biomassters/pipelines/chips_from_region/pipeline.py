"""Images of a region + labels → raw archive."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
from biomassters.regions.chip_cutting import RegionChips, plan_chips
from biomassters.regions.inputs.source import open_region
from biomassters.regions.labels import Label
from biomassters.regions.options import MappingOptions, RegionChipsOptions


def cut_chips(
    images: str, label: Path, mapping: MappingOptions, chips_from_region: RegionChipsOptions
) -> RegionChips:
    """Labelled pieces of a region found; they become chips while they are written."""
    source = open_region(images, mapping.images, mapping.area)
    labels = Label.open(label, chips_from_region.label)
    return plan_chips(source, labels, chips_from_region, mapping.reader_threads)


def create_pipeline() -> Pipeline:
    """One node: what the images hold, and which part counts, is stated as for a map."""
    return namespaced(
        "chips_from_region",
        Node(
            cut_chips,
            ["region_images", "label_file", "params:mapping", "params:chips_from_region"],
            "raw_archive",
            name="cut_chips",
        ),
    )
