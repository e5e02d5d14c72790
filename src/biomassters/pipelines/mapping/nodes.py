"""Verbs of the mapping pipeline."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from biomassters.chips.provenance import warn_of_simulated_weights
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.inference.options import InferenceOptions
from biomassters.network.starter import calibration_file
from biomassters.regions.inputs.source import open_region
from biomassters.regions.map_side_files import describe_map, map_styles
from biomassters.regions.mapping import (
    RegionPlan,
    WeightsFiles,
    finish_map,
    plan_region,
    predict_blocks,
    read_calibration,
)
from biomassters.regions.options import TITLE, MappingOptions
from biomassters.regions.visuals import MapPicture, make_picture, quick_look, render_page
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.workers.options import DaskOptions


def plan_map(
    images: str,
    weights: NetworkWeights,
    region_map: str,
    mapping: MappingOptions,
    inference: InferenceOptions,
) -> RegionPlan:
    """Images, weights and place looked at, before any work is done."""
    source = open_region(images, mapping.images, mapping.area)
    warn_of_simulated_weights(weights.name, weights.trained_on, source.simulated, images)
    files = WeightsFiles.of(weights.files, weights.fingerprint, mapping.ensemble)
    return plan_region(source, files, Path(region_map), mapping, inference)


def map_blocks(plan: RegionPlan, scratch: Path, dask: DaskOptions) -> RegionPlan:
    """Every block predicted and kept in the scratch folder."""
    predict_blocks(plan, scratch, dask)
    return plan


def write_map(
    plan: RegionPlan, scratch: Path, run_calibration: str, uncertainty: UncertaintyOptions
) -> tuple[dict[str, Any], str]:
    """Blocks put together to one GeoTIFF with intervals; the map's numbers, and the map."""
    file = calibration_file(plan.weights.paths[0], run_calibration)
    calibration = read_calibration(file, plan.weights.fingerprint, plan.provenance())
    summary = finish_map(plan, scratch, calibration, uncertainty.carbon_fraction)
    return summary, str(plan.path)


def picture_map(plan: RegionPlan, summary: dict[str, Any]) -> MapPicture:
    """The finished map, small enough to look at, and an image beneath it."""
    return make_picture(plan.path, plan.source)


def draw_map(picture: MapPicture) -> Figure:
    """The quick look."""
    return quick_look(picture, TITLE)


def render_map_page(picture: MapPicture, plan: RegionPlan, summary: dict[str, Any]) -> str:
    """A page with the map over a background."""
    return render_page(picture, summary, TITLE, plan.path)


def style_map(picture: MapPicture, region_map: str) -> dict[str, str]:
    """Styles that QGIS finds beside the map, and the width of its intervals as a layer."""
    return map_styles(Path(region_map), picture.scale_top, picture.width_top)


def describe_region(plan: RegionPlan, summary: dict[str, Any]) -> dict[str, Any]:
    """A STAC item."""
    return describe_map(plan.path, plan.source.grid, summary, plan.options.first_year)
