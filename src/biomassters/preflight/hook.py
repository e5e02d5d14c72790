"""Kedro's hooks: a run that can't end well is refused, one that fills the disk ends in a sentence.

Settings load this module for every command, so that the checks are imported where they run.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from biomassters.errors import BadInputError
from biomassters.messages import readable_bytes, shown_path

if TYPE_CHECKING:
    from biomassters.preflight.planned_run import PlannedRun

_FULL = (errno.ENOSPC, errno.EDQUOT)
# How libraries that hide the number say it.
_WORDS = tuple(os.strerror(number).lower() for number in _FULL)
# GDAL says only that writing failed; a disk with less room than this is why.
_NOTHING = 64 * 1024


class Preflight:
    """Refuses a run that can't end well, before its first node."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Look at options, files, devices and disks; first, so that no record is begun."""
        from biomassters.preflight.planned_run import PlannedRun

        skips = bool(run_params.get("only_missing_outputs"))
        found = faults(PlannedRun(pipeline, catalog, skips, str(run_params.get("runner"))))
        if found:
            raise BadInputError("\n".join(found))


def faults(run: "PlannedRun") -> list[str]:
    """A sentence for everything that is already known to go wrong, each once."""
    from biomassters.preflight import input_checks, option_checks, output_checks

    checks = (
        input_checks.check_inputs,
        input_checks.check_named_files,
        input_checks.check_cube,
        option_checks.check_runner,
        option_checks.check_folds,
        option_checks.check_crop,
        option_checks.check_submission_format,
        option_checks.check_backbone,
        option_checks.check_window,
        option_checks.check_pretrained_weights,
        option_checks.check_devices,
        option_checks.check_plots_extra,
        option_checks.check_sweep,
        output_checks.check_outputs,
        output_checks.check_disk,
        option_checks.check_scheduler,
    )
    return list(dict.fromkeys(sentence for check in checks for sentence in check(run)))


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
    def on_pipeline_error(self, error: Exception, catalog: CatalogProtocol) -> None:
        """Say it in a sentence, after all others have taken note of the error.

        Raises:
            BadInputError: The disk is full.
        """
        from biomassters.preflight.output_checks import written_paths
        from biomassters.preflight.planned_run import PlannedRun, nearest_folder

        errors = list(_chain(error))
        node = [] if self._node is None else [self._node]
        paths = written_paths(PlannedRun(Pipeline(node), catalog))
        place = _place(errors, paths, self._dataset)
        if place is None:
            return
        folder = nearest_folder(place)
        if not _is_full(errors, folder):
            return
        room = f"{shown_path(folder)} has {readable_bytes(shutil.disk_usage(folder).free)} free"
        told = next((str(one) for one in errors if isinstance(one, BadInputError)), None)
        if told is not None:  # by who was writing, and knows what is kept
            raise BadInputError(f"{told.rstrip('.')} ({room}).") from error
        raise BadInputError(
            f"The disk is full: {shown_path(place)} can't be written, {room}; free some space and "
            "run the same command again, it goes on from what is finished."
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _place(errors: list[BaseException], paths: dict[str, Path], dataset: str | None) -> Path | None:
    """The file that could not be written: the error's own, or what the node was making."""
    for one in errors:
        name: Any = getattr(one, "filename2", None) or getattr(one, "filename", None)
        if isinstance(name, str | os.PathLike) and Path(name).is_absolute():
            return Path(name)
    if dataset in paths:
        return paths[dataset]
    made = [path for name, path in paths.items() if name != "run_record"]
    return next(iter([*made, *paths.values()]), None)


def _is_full(errors: list[BaseException], folder: Path) -> bool:
    if any(
        getattr(one, "errno", None) in _FULL or any(words in str(one).lower() for words in _WORDS)
        for one in errors
    ):
        return True
    if any(isinstance(one, BadInputError) for one in errors):
        return False
    wrote = any(isinstance(one, OSError) or "rasterio" in type(one).__module__ for one in errors)
    return wrote and shutil.disk_usage(folder).free < _NOTHING
