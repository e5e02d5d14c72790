"""Folders that the run writes to."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from biomassters.datasets.folder import FolderDataset
from biomassters.datasets.place import PlaceDataset
from biomassters.messages import listed
from biomassters.preflight.planned_run import PlannedRun, shown

_WRITTEN_PLACES = ("region_map",)
_RECORD = "run_record"


def check_outputs(run: PlannedRun) -> Iterator[str]:
    """Everything that the run will write can be written, tried with a file that vanishes."""
    refused: dict[str, list[Path]] = defaultdict(list)
    for place in sorted({_standing(path) for path in written_paths(run).values()}):
        reason = _refusal(place)
        if reason is not None:
            refused[reason].append(place)
    for reason, places in refused.items():
        if reason == os.strerror(28):  # how much is needed is another check's matter
            continue
        names = [shown(place) for place in places[:3]]
        more = [f"{len(places) - 3} more"] if len(places) > 3 else []
        yield (
            f"Nothing can be written to {listed(names + more)} ({reason}): give yourself write "
            f"permission, or work in a copy of the project (this is {Path.cwd()})."
        )


def written_paths(run: PlannedRun) -> dict[str, Path]:
    """Where the run's outputs lie, and the folders that its nodes fill, by dataset."""
    names = set(run.pipeline.all_outputs()) | {_RECORD}
    for node in run.pipeline.nodes:
        for name in node.inputs:
            dataset = run.dataset(name)
            place = isinstance(dataset, PlaceDataset) and name in _WRITTEN_PLACES
            if isinstance(dataset, FolderDataset) or place:
                names.add(name)
    found = {name: run.path(name) for name in sorted(names)}
    return {name: path for name, path in found.items() if path is not None}


def _standing(path: Path) -> Path:
    """The file itself, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _refusal(place: Path) -> str | None:
    """Why nothing can be written there."""
    try:
        if place.is_file():
            with place.open("ab"):
                pass
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror
