"""Kedro's hook that runs the checks."""

from collections.abc import Callable, Iterator
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from biomassters.errors import BadInputError
from biomassters.preflight.disk_space import check_disk
from biomassters.preflight.input_checks import check_inputs, check_named_files
from biomassters.preflight.option_checks import (
    check_backbone,
    check_crop,
    check_devices,
    check_folds,
    check_submission_format,
)
from biomassters.preflight.output_checks import check_outputs
from biomassters.preflight.planned_run import PlannedRun

CHECKS: tuple[Callable[[PlannedRun], Iterator[str]], ...] = (
    check_inputs,
    check_named_files,
    check_folds,
    check_crop,
    check_submission_format,
    check_backbone,
    check_devices,
    check_outputs,
    check_disk,
)


def faults(run: PlannedRun) -> list[str]:
    """A sentence for everything that is already known to go wrong, each once."""
    return list(dict.fromkeys(sentence for check in CHECKS for sentence in check(run)))


class Preflight:
    """Refuses a run that can't end well, before its first node."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Look at options, files, devices and disks; first, so that no record is begun."""
        skips = bool(run_params.get("only_missing_outputs"))
        found = faults(PlannedRun(pipeline, catalog, skips))
        if found:
            raise BadInputError("\n".join(found))
