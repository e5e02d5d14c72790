"""Files and folders that the run takes and doesn't make."""

import json
from collections.abc import Iterable, Iterator
from glob import has_magic
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.io import DatasetError, MemoryDataset
from kedro.pipeline.node import Node

from biomassters.chips.split_labels import no_labels
from biomassters.datasets.chip_store import ChipStoreDataset
from biomassters.datasets.network_weights import (
    STARTER_STAYS,
    NetworkWeightsDataset,
    member_paths,
)
from biomassters.datasets.predictions import PredictionsDataset
from biomassters.datasets.raw_archive import ArchiveDataset
from biomassters.datasets.region_images import RegionImagesDataset
from biomassters.errors import BadInputError
from biomassters.io.files import read_regular
from biomassters.io.storage import is_url
from biomassters.messages import listed, shown_path
from biomassters.network.starter import NO_STARTER, STARTER_FILE, weights_file
from biomassters.pipeline_registry import DEFAULT, JOINED
from biomassters.preflight.planned_run import PlannedRun


def check_inputs(run: PlannedRun) -> Iterator[str]:
    """Everything that no node of this run makes is there and can be read."""
    if run.skips_finished:
        return
    for name in run.brought():
        dataset = run.dataset(name)
        if dataset is None or isinstance(dataset, MemoryDataset):
            yield f"{name} is never on disk: {_start_earlier(name)}."
            continue
        if is_url(str(getattr(dataset, "_filepath", ""))):
            continue  # whether it can be reached is seen by the node that needs it
        if not dataset.exists():
            yield _missing(run, name)
        elif isinstance(dataset, NetworkWeightsDataset):
            yield from _weights_faults(Path(str(run.path(name))))
        else:
            yield from _unreadable(run.path(name))


def check_named_files(run: PlannedRun) -> Iterator[str]:
    """Files that parameters name: weights of an ensemble, polygons, tars and zips, test labels."""
    mapping = run.options("mapping")
    if mapping is not None:
        for weights in mapping.ensemble:
            yield from (f"mapping.ensemble: {fault}" for fault in _weights_faults(weights))
        if mapping.area.file is not None and not is_url(mapping.area.file):
            yield from _file_faults(mapping.area.file, "mapping.area.file")
    imagery = run.options("imagery")
    if imagery is not None and imagery.area is not None:
        yield from _file_faults(imagery.area, "imagery.area")
    change = run.options("change")
    if change is not None:
        for name in ("areas", "plots"):
            if (path := getattr(change, name)) is not None:
                yield from _file_faults(path, f"change.{name}")
        for name, dataset in (("map_before", "map_before"), ("map_after", "region_map@after")):
            if (place := _missing_map(run, dataset)) is not None:
                yield f"There is no map {shown_path(place)}: give one with '--params {name}=PATH'."
    plots = run.options("plots")
    if plots is not None and run.takes("field_plots@file"):
        for name in ("areas", "strata"):
            if (path := getattr(plots, name)) is not None:
                yield from _file_faults(path, f"plots.{name}")
        place = _missing_map(run, "region_map@plots")
        if not plots.covariates and place is not None:
            yield (
                f"There is no map {shown_path(place)}: give one with '--params plot_map=PATH', run "
                "'--pipelines mapping' first, or name plots.covariates."
            )
    acquisition = run.options("acquisition")
    if acquisition is not None:
        for name in ("tar_parts", "zips"):
            for part in getattr(acquisition, name):
                if not is_url(part) and not has_magic(part):  # a pattern is a tar's parts
                    yield from _file_faults(part, f"acquisition.{name}")
        source, archives = acquisition.source, acquisition.tar_parts or acquisition.zips
        local = not archives and source != "s3" and not is_url(source)
        if local and not Path(source).is_dir():
            yield (
                f"acquisition.source: there is no folder {source}; name s3, a folder or an address."
            )
    if run.makes("fit_weights") and run.path("fit_weights") == STARTER_FILE:
        yield STARTER_STAYS
    training = run.options("training")
    if training is not None and run.makes("fit_weights"):
        for stage in training.active_stages():
            if stage.weights_file is not None:
                faults = _weights_faults(stage.weights_file)
                yield from (f"training, stage {stage.name}: {fault}" for fault in faults)
    labels = run.path("test_labels") if run.makes("test_scores") else None
    if labels is not None and not labels.is_dir() and not run.makes("raw_archive"):
        yield no_labels(shown_path(labels))


def _missing_map(run: PlannedRun, name: str) -> Path | None:
    """Where a map should be, if there is none and the run doesn't make it."""
    place = run.path(name)
    made = "region_map@made"
    comes = run.makes(made) and place == run.path(made)
    return None if place is None or comes or place.is_file() else place


def check_cube(run: PlannedRun) -> Iterator[str]:
    """Nothing reads a region's images before imagery, in the same run, has made them."""
    readers = {str(node.namespace) for node in run.pipeline.nodes if "region_images" in node.inputs}
    readers &= {"mapping", "chips_from_region"}
    if run.makes("imagery_cube") and readers:
        cube, images = (
            shown_path(Path(str(run.path(name)))) for name in ("imagery_cube", "region_images")
        )
        yield (
            f"{listed(sorted(readers))} would read {images} without waiting for the cube that "
            f"imagery makes ({cube}): take '--pipelines from_area', or run imagery first and the "
            f"rest with '--params region_root={cube}'."
        )


def _missing(run: PlannedRun, name: str) -> str:
    dataset, path = run.dataset(name), run.path(name)
    if isinstance(dataset, ArchiveDataset | ChipStoreDataset | PredictionsDataset):
        try:  # they say themselves what is wrong with what they find
            dataset.load()
        except DatasetError as error:
            if isinstance(error.__cause__, BadInputError):
                return str(error.__cause__)
            raise
    if path == STARTER_FILE:
        return NO_STARTER
    parameter = getattr(dataset, "_parameter", None)
    if parameter is not None:
        return f"There is no file {path}; give it with '--params {parameter}=PATH'."
    if isinstance(dataset, RegionImagesDataset) and path is not None:
        return (
            f"There is nothing at {shown_path(path)}: give a folder, a STAC item collection or a "
            "Zarr cube with '--params region_root=PLACE', or run '--pipelines region_simulation' "
            "first."
        )
    where = "" if path is None else f" ({shown_path(path)})"
    return f"{name} is not there{where}: {_run_first(run, name)}."


def _run_first(run: PlannedRun, name: str) -> str:
    makers = " or ".join(f"'--pipelines {maker}'" for maker in _makers(run, name))
    if not makers:
        return "check the path"
    return (
        f"check the path, or run {makers} first, in the same environment; without --pipelines, "
        "kedro runs them all"
    )


def _start_earlier(name: str) -> str:
    nodes = sorted(
        {node.name for one in pipelines.values() for node in one.nodes if name in node.outputs}
    )
    return (
        f"let the run begin with {listed(nodes)}, which makes it" if nodes else "no node makes it"
    )


def _makers(run: PlannedRun, name: str) -> list[str]:
    """Pipelines that make a dataset or another at its place, those of the default run first."""
    place = run.path(name)

    def makes(nodes: Iterable[Node]) -> bool:
        made = {output for node in nodes for output in node.outputs}
        return name in made or (place is not None and place in map(run.path, made))

    pipelines.set_requested(None)  # all of them, which takes a second or two
    first = {node.name for node in pipelines[DEFAULT].nodes}
    found = [other for other in pipelines if other not in JOINED and makes(pipelines[other].nodes)]
    return sorted(found, key=lambda one: (pipelines[one].nodes[0].name not in first, one))


def _file_faults(name: str, parameter: str) -> Iterator[str]:
    path = Path(name)
    if not path.is_file():
        yield f"{parameter}: there is no file {name}; check the path."
    else:
        yield from (f"{parameter}: {fault}" for fault in _unreadable(path))


def _unreadable(path: Path | None) -> Iterator[str]:
    if path is None or not path.is_file():
        return
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        yield f"{shown_path(path)} can't be read ({error.strerror}): give yourself read permission."


def _weights_faults(name: str | Path) -> Iterator[str]:
    """What a look at weights files and their JSON shows; no tensor is read, no torch imported."""
    path = weights_file(name)
    if path == STARTER_FILE and not path.is_file():
        yield NO_STARTER
        return
    try:
        for member in member_paths(_look_at_weights(path), path):
            _look_at_weights(member)
    except BadInputError as error:
        yield str(error)


def _look_at_weights(path: Path) -> dict[str, Any]:
    """The JSON beside a weights file; a BadInputError if one of the two isn't what it should be."""
    from safetensors import SafetensorError, safe_open

    beside = path.with_suffix(".json")
    for file in (path, beside):
        if not file.is_file():
            raise BadInputError(
                f"There is no file {shown_path(file)}; weights are a .safetensors file and its "
                ".json."
            )
    try:
        with safe_open(str(path), "numpy"):
            return dict(json.loads(read_regular(beside)))
    except (OSError, RecursionError, SafetensorError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "damaged or of another format"
        raise BadInputError(
            f"The weights {shown_path(path)} can't be read ({reason}): copy both files again."
        ) from None
