"""Kedro's hook that runs the checks."""

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from biomassters.errors import BadInputError


class Preflight:
    """Refuses a run that can't end well, before its first node."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Look at options, files, devices and disks; first, so that no record is begun."""
        # Imported here: settings load this module for every command.
        from biomassters.preflight.checks import faults
        from biomassters.preflight.planned_run import PlannedRun

        skips = bool(run_params.get("only_missing_outputs"))
        found = faults(PlannedRun(pipeline, catalog, skips))
        if found:
            raise BadInputError("\n".join(found))
