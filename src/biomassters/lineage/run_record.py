"""The record that every run leaves beside its results, ``run.json``.

It holds the last run of every node, so that a run of a few nodes adds to what is known of the
others instead of forgetting it.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline.node import Node

from biomassters.lineage.environment import (
    code_version,
    forget_peak_memory,
    machine,
    peak_since_forgotten_mib,
)
from biomassters.messages import redact, redacted

log = logging.getLogger(__name__)

DATASET = "run_record"
_KEPT_RUNS = 20


class RunRecord:
    """Watches a run and writes down what it did; a run that fails is recorded as well."""

    def __init__(self) -> None:
        self._project = Path()
        self._parameters: Mapping[str, Any] = {}
        self._catalog: CatalogProtocol | None = None
        self._run: dict[str, Any] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._started: dict[str, float] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the project's place and parameters."""
        self._project = Path(context.project_path)
        self._parameters = context.config_loader["parameters"]

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: CatalogProtocol) -> None:
        """Begin."""
        self._catalog, self._nodes, self._started = catalog, {}, {}
        self._run = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "pipelines": run_params.get("pipeline_names") or run_params.get("pipeline_name"),
            "environment": run_params.get("env"),
            "code": code_version(self._project),
            "parameters": redacted(self._parameters),
        }

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str, node: Node) -> None:
        """A node's time begins with its first input."""
        self._begin(node)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any, node: Node) -> None:
        """Count what goes in."""
        self._count(node, "in", dataset_name, data)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """A node without inputs begins here."""
        self._begin(node)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Count what comes out; much is made only while it is saved."""
        from biomassters.lineage.chip_counts import is_made_while_saved

        if is_made_while_saved(data) and self._catalog is not None:
            data = self._catalog.load(dataset_name)
        self._count(node, "out", dataset_name, data)
        self._measure(node)

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Measure time and memory so far."""
        self._measure(node)

    @hook_impl
    def after_pipeline_run(self, catalog: CatalogProtocol) -> None:
        """Write."""
        self._write(catalog, "finished")

    @hook_impl
    def on_pipeline_error(self, error: Exception, catalog: CatalogProtocol) -> None:
        """Write what there is, and what went wrong; on a full disk, that is what is said."""
        with suppress(DatasetError, OSError):
            self._write(catalog, redact(f"failed: {error}".splitlines()[0]))

    def _begin(self, node: Node) -> None:
        if node.name not in self._started:
            forget_peak_memory()
            self._started[node.name] = time.perf_counter()
            self._nodes[node.name] = {
                "run": self._run["started"],
                "function": node.func.__name__,
                "chips_in": {},
                "chips_out": {},
                "fingerprints": {},
            }

    def _count(self, node: Node, side: str, name: str, data: Any) -> None:
        if name.startswith("params:") or node.name not in self._nodes:
            return
        # Imported where it is used: it would slow every start of the command line.
        from biomassters.lineage.chip_counts import count_chips, fingerprint_of

        record = self._nodes[node.name]
        for place, value in (
            (f"chips_{side}", count_chips(data)),
            ("fingerprints", fingerprint_of(data)),
        ):
            if value is not None:
                record[place][name] = value

    def _measure(self, node: Node) -> None:
        record = self._nodes[node.name]
        record["seconds"] = round(time.perf_counter() - self._started[node.name], 2)
        record["peak_memory_mib"] = round(peak_since_forgotten_mib())

    def _write(self, catalog: CatalogProtocol, status: str) -> None:
        if DATASET not in catalog:
            return
        earlier = _earlier(catalog)
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        run = self._run | {"ended": ended, "status": status, "machine": machine()}
        runs = [*earlier.get("runs", []), run][-_KEPT_RUNS:]
        # Older runs' parameters would be most of the file.
        runs = [{k: v for k, v in one.items() if k != "parameters"} for one in runs[:-1]] + runs[
            -1:
        ]
        catalog.save(DATASET, {"runs": runs, "nodes": earlier.get("nodes", {}) | self._nodes})


def _earlier(catalog: CatalogProtocol) -> Mapping[str, Any]:
    """What an earlier run wrote; nothing if it can't be read."""
    try:
        if catalog.exists(DATASET):
            found = catalog.load(DATASET)
            return found if isinstance(found, dict) else {}
    except (DatasetError, ValueError):
        log.warning("The record of earlier runs can't be read and is begun anew.")
    return {}
