"""MLflow, where it is asked for: the parameters, metrics and results of every run.

Off, it costs nothing: mlflow is not even imported.
"""

import logging
import math
import os
from collections.abc import Mapping
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from pydantic import Field

from biomassters.errors import BadInputError
from biomassters.lineage.run_record import code_version
from biomassters.messages import installation, redacted
from biomassters.options import Options
from biomassters.reporting.model_card import flatten

log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
_ARTEFACTS = (
    *("report", "model_card", "metrics"),
    *("fit_weights", "final_weights", "uncertainty@json", "carbon"),
)
_LONGEST_PARAMETER = 500  # MLflow refuses longer ones on some stores


class TrackingOptions(Options):
    """Where runs are recorded besides ``run.json``."""

    mlflow: bool = Field(default=False, description="Record every run with MLflow.")
    mlflow_uri: str = Field(
        default=f"{_SQLITE}data/08_reporting/mlflow.db",
        description="MLflow's store: a local SQLite file, or a server's address. The environment "
        "variable MLFLOW_TRACKING_URI goes before it.",
    )
    mlflow_experiment: str = Field(
        default="biomassters", min_length=1, description="Name of the experiment in MLflow."
    )


class MlflowTracking:
    """Tells MLflow of a run when ``tracking.mlflow`` is on."""

    def __init__(self) -> None:
        self._options = TrackingOptions()
        self._parameters: Mapping[str, Any] = {}
        self._project = Path()
        self._mlflow: Any = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read the options; refuse at once if mlflow is wanted and isn't there."""
        self._parameters = context.config_loader["parameters"]
        self._project = Path(context.project_path)
        self._options = TrackingOptions.model_validate(dict(self._parameters.get("tracking", {})))
        if self._options.mlflow and find_spec("mlflow") is None:
            raise BadInputError(
                "tracking.mlflow is on, but MLflow is not installed; install it with "
                f"{installation('tracking')}, or leave tracking.mlflow off."
            )

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Open a run."""
        if not self._options.mlflow:
            return
        import mlflow

        _log_with_the_rest()
        # Read before MLflow is told: it writes what it is told into the same variable.
        uri = os.environ.get("MLFLOW_TRACKING_URI") or self._uri()
        mlflow.set_tracking_uri(uri)
        if mlflow.get_experiment_by_name(self._options.mlflow_experiment) is None:
            mlflow.create_experiment(self._options.mlflow_experiment, _artefact_place(uri))
        mlflow.set_experiment(self._options.mlflow_experiment)
        mlflow.start_run(run_name=self._parameters.get("run") or run_params.get("env") or "base")
        mlflow.log_params(loggable_parameters(self._parameters))
        code = code_version(self._project)
        mlflow.set_tags({f"code.{name}": str(value) for name, value in code.items()})
        self._mlflow = mlflow

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log metrics as they come: final ones, and those of every epoch."""
        if self._mlflow is None:
            return
        if dataset_name == "metrics":
            self._mlflow.log_metrics(loggable_metrics(data))
        elif dataset_name == "training_history":
            for row in data.to_dict("records"):
                step = int(row.pop("epoch"))
                named = {f"epoch.{name}": value for name, value in row.items()}
                self._mlflow.log_metrics(loggable_metrics(named), step=step)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Keep the results as artefacts and close the run."""
        if self._mlflow is None:
            return
        for name in sorted(pipeline.all_outputs() & set(_ARTEFACTS)):
            path = Path(str(getattr(catalog[name], "_filepath", "")))
            if path.is_file():
                self._mlflow.log_artifact(str(path))
        self._end("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Close the run as failed."""
        if self._mlflow is not None:
            self._end("FAILED")

    def _end(self, status: str) -> None:
        self._mlflow.end_run(status)
        self._mlflow = None

    def _uri(self) -> str:
        """The store, a relative SQLite file lying in the project."""
        uri = self._options.mlflow_uri
        if not uri.startswith(_SQLITE):
            return uri
        place = self._project / uri.removeprefix(_SQLITE)
        place.parent.mkdir(parents=True, exist_ok=True)
        return f"{_SQLITE}{place}"


def _log_with_the_rest() -> None:
    """MLflow brings handlers and a format of its own; its warnings go where the run's log goes."""
    for name in ("mlflow", "alembic", "sqlalchemy.engine"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logger.setLevel(logging.WARNING)


def _artefact_place(uri: str) -> str | None:
    """Artefacts of a local store lie beside it; a server knows where its own go."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE)).absolute().with_name("mlflow_artefacts").as_uri()


def loggable_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters as dotted names and texts."""
    return {name: text[:_LONGEST_PARAMETER] for name, text in flatten(redacted(parameters))}


def loggable_metrics(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of nested metrics, by dotted names that MLflow takes."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        plain = f"{prefix}{name}".replace(">", "above_")
        if isinstance(value, Mapping):
            found |= loggable_metrics(value, f"{plain}.")
        elif isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
            found[plain] = float(value)
    return found
