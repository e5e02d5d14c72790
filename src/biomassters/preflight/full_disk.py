"""A disk that fills up during a run, whoever was writing: one sentence instead of a traceback."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from biomassters.errors import BadInputError
from biomassters.messages import readable_bytes

_FULL = (errno.ENOSPC, errno.EDQUOT)
# How libraries that hide the number say it.
_WORDS = tuple(os.strerror(number).lower() for number in _FULL)
# GDAL says only that writing failed; a disk with less room than this is why.
_NOTHING = 64 * 1024


class FullDisk:
    """Turns the many errors of a full disk into the one that a user can mend."""

    def __init__(self) -> None:
        self._node: Node | None = None
        self._dataset: str | None = None

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Remember what is being made."""
        self._node, self._dataset = node, None

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Remember what is being written."""
        self._dataset = dataset_name

    @hook_impl(trylast=True)
    def on_pipeline_error(
        self, error: Exception, pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Say it in a sentence, after all others have taken note of the error.

        Raises:
            BadInputError: The disk is full.
        """
        from biomassters.preflight.output_checks import written_paths
        from biomassters.preflight.planned_run import PlannedRun, shown

        node = [] if self._node is None else [self._node]
        paths = written_paths(PlannedRun(Pipeline(node), catalog))
        place = _place(error, paths, self._dataset)
        if place is None or not _is_full(error, place):
            return
        folder = _folder(place)
        room = f"{shown(folder)} has {readable_bytes(shutil.disk_usage(folder).free)} free"
        told = next((str(one) for one in _chain(error) if isinstance(one, BadInputError)), None)
        if told is not None:  # by who was writing, and knows what is kept
            raise BadInputError(f"{told.rstrip('.')} ({room}).") from error
        raise BadInputError(
            f"The disk is full: {shown(place)} can't be written, {room}; free some space and run "
            "the same command again, it goes on from what is finished."
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _place(error: Exception, paths: dict[str, Path], dataset: str | None) -> Path | None:
    """The file that could not be written: the error's own, or what the node was making."""
    for one in _chain(error):
        name: Any = getattr(one, "filename2", None) or getattr(one, "filename", None)
        if isinstance(name, str | os.PathLike) and Path(name).is_absolute():
            return Path(name)
    if dataset in paths:
        return paths[dataset]
    made = [path for name, path in paths.items() if name != "run_record"]
    return next(iter([*made, *paths.values()]), None)


def _folder(place: Path) -> Path:
    while not place.is_dir():
        place = place.parent
    return place


def _is_full(error: Exception, place: Path) -> bool:
    for one in _chain(error):
        if getattr(one, "errno", None) in _FULL:
            return True
        if any(words in str(one).lower() for words in _WORDS):
            return True
    if any(isinstance(one, BadInputError) for one in _chain(error)):
        return False
    wrote = any(isinstance(one, OSError) or "rasterio" in type(one).__module__
                for one in _chain(error))  # fmt: skip
    return wrote and shutil.disk_usage(_folder(place)).free < _NOTHING
