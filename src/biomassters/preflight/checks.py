"""All the checks, in the order in which their sentences are printed."""

from collections.abc import Callable, Iterator

from biomassters.preflight.disk_space import check_disk
from biomassters.preflight.input_checks import check_inputs, check_named_files
from biomassters.preflight.option_checks import (
    check_backbone,
    check_crop,
    check_devices,
    check_folds,
    check_pretrained_weights,
    check_scheduler,
    check_submission_format,
    check_window,
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
    check_window,
    check_pretrained_weights,
    check_devices,
    check_outputs,
    check_disk,
    check_scheduler,
)


def faults(run: PlannedRun) -> list[str]:
    """A sentence for everything that is already known to go wrong, each once."""
    return list(dict.fromkeys(sentence for check in CHECKS for sentence in check(run)))
