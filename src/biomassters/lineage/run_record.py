"""The record that every run leaves beside its results, ``run.json``.

It holds the last run of every node, so that a run of a few nodes adds to what is known of the
others instead of forgetting it; and which code ran, with which packages, on what.
"""

import logging
import os
import platform
import subprocess
import sys
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

from biomassters import __version__
from biomassters.messages import redact, redacted

log = logging.getLogger(__name__)

DATASET = "run_record"
FORMAT = 2  # 1, without the number, lacks what a run was restricted to
_KEPT_RUNS = 20
# What restricts a run to some nodes: as ``kedro run`` and Kedro's hooks call it.
SELECTION = (
    "tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs", "namespaces",
)  # fmt: skip


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
        """Begin a record."""
        self._catalog, self._nodes, self._started = catalog, {}, {}
        self._run = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "pipelines": run_params.get("pipeline_names") or run_params.get("pipeline_name"),
            "environment": run_params.get("env"),
            "selection": {
                name: list(run_params[name]) for name in SELECTION if run_params.get(name)
            },
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
        # Imported where it is used: it would slow every start of the command line.
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
            with suppress(OSError):  # Linux counts the peak from here; elsewhere it is the run's
                Path("/proc/self/clear_refs").write_text("5")
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
        from biomassters.lineage.chip_counts import count_chips, fingerprint_of

        record = self._nodes[node.name]
        chips, fingerprint = count_chips(data), fingerprint_of(data)
        if chips is not None:
            record[f"chips_{side}"][name] = chips
        if fingerprint is not None:
            record["fingerprints"][name] = fingerprint

    def _measure(self, node: Node) -> None:
        record = self._nodes[node.name]
        record["seconds"] = round(time.perf_counter() - self._started[node.name], 2)
        record["peak_memory_mib"] = round(_peak_memory_mib())

    def _write(self, catalog: CatalogProtocol, status: str) -> None:
        if DATASET not in catalog:
            return
        earlier = _earlier(catalog)
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        run = self._run | {"ended": ended, "status": status, "machine": _machine()}
        older = earlier.get("runs", [])[1 - _KEPT_RUNS :]
        # Older runs' parameters would be most of the file.
        older = [{k: v for k, v in one.items() if k != "parameters"} for one in older]
        nodes = earlier.get("nodes", {}) | self._nodes
        catalog.save(DATASET, {"format": FORMAT, "runs": [*older, run], "nodes": nodes})


def _earlier(catalog: CatalogProtocol) -> Mapping[str, Any]:
    """What an earlier run wrote; nothing if it can't be read."""
    try:
        if catalog.exists(DATASET):
            found = catalog.load(DATASET)
            return found if isinstance(found, dict) else {}
    except (DatasetError, ValueError):
        log.warning("The record of earlier runs can't be read and is begun anew.")
    return {}


def code_version(project: Path) -> dict[str, Any]:
    """The package's version, and the commit of the project folder where git knows it."""
    facts: dict[str, Any] = {"version": __version__, "commit": None, "changed": None}
    commit = _git(project, "rev-parse", "HEAD")
    if commit:
        facts["commit"] = commit
        facts["changed"] = bool(_git(project, "status", "--porcelain", "--untracked-files=no"))
    return facts


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _machine() -> dict[str, Any]:
    """Processor, device and packages; torch is asked only if something has loaded it."""
    from biomassters.reporting.model_card import package_versions  # imports pandas

    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name(0) if torch is not None and cuda else "cpu",
        "packages": package_versions(),
    }


def _peak_memory_mib() -> float:
    """Largest resident memory of the node so far, MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        from biomassters.reporting.model_card import peak_memory_mib

        return peak_memory_mib()
