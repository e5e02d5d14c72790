"""Runs side by side: their scores, the parameters in which they differ, and one picture.

A run is a folder of results that has a ``run.json``; ``biomassters compare`` prints what is here.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from kedro.io import CatalogProtocol

from biomassters.errors import BadInputError
from biomassters.io.files import read_json
from biomassters.lineage.run_record import DATASET, FORMAT
from biomassters.messages import hint, shown_path
from biomassters.metrics import AGB_UNIT
from biomassters.reporting.charts import curves_of
from biomassters.reporting.model_card import flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """What is known of a run.

    Attributes:
        name: Of its folder.
        record: Its ``run.json``.
        metrics: Scores of its held-out chips; empty before ``reporting``.
        per_chip: The same chip by chip, by ``chip_id``; None before ``reporting``.
        history: Of its training; None without.
    """

    name: str
    record: Mapping[str, Any]
    metrics: Mapping[str, Any]
    per_chip: pd.DataFrame | None = None
    history: pd.DataFrame | None = None

    @property
    def last(self) -> Mapping[str, Any]:
        """The last run of any of its nodes: code, parameters, packages, status."""
        return self.record["runs"][-1]

    @property
    def chips(self) -> str | None:
        """Fingerprint of the chip store that it was scored on."""
        nodes = self.record["nodes"].values()
        found = (node["fingerprints"].get("chip_store") for node in nodes)
        return next(filter(None, found), None)


def named_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text by dotted name, without the name of the run."""
    return {name: text for name, text in flatten(parameters) if name != "run"}


def read_record(path: Path) -> dict[str, Any]:
    """A run's record.

    Raises:
        BadInputError: It can't be read, or was written by a version that noted other things.
    """
    record = read_json(path, "give the run.json of a run")
    runs = record.get("runs") if isinstance(record, dict) else None
    if not isinstance(runs, list) or not runs or not isinstance(record.get("nodes"), dict):
        raise BadInputError(f"{path} is no record of a run: give the run.json of one.")
    if record.get("format") != FORMAT:
        version = (runs[-1].get("code") or {}).get("version")
        raise BadInputError(
            f"{path} was written by another version of biomassters ({version}, format "
            f"{record.get('format', 1)}; this one reads {FORMAT}): install that version, or run "
            "the same command again to have the record written anew."
        )
    return record


def read_runs(catalog: CatalogProtocol, names: Sequence[str] = ()) -> list[RecordedRun]:
    """Runs by name.

    Args:
        catalog: Of any environment: what it calls the files of one run, others call theirs.
        names: Which runs; none: all that there are, but for records of other versions.

    Raises:
        BadInputError: There is no such run, or none at all.
    """
    places = {
        name: Path(str(getattr(catalog[name], "_filepath")))  # noqa: B009
        for name in (DATASET, "metrics", "scores_per_chip", "training_history")
    }
    root = places[DATASET].parent.parent
    known = sorted(path.parent.name for path in root.glob(f"*/{places[DATASET].name}"))
    for name in names:
        if name not in known:
            raise BadInputError(f"There is no run '{name}'; {hint(name, known)}")

    def place(dataset: str, run: str) -> Path:
        return places[dataset].parent.parent / run / places[dataset].name

    def table(dataset: str, run: str, read: Any, **how: Any) -> pd.DataFrame | None:
        path = place(dataset, run)
        return read(path, **how) if path.is_file() else None

    runs = []
    for name in dict.fromkeys(names or known):
        try:
            record = read_record(place(DATASET, name))
        except BadInputError as error:
            if names:
                raise
            log.warning("%s is left out: %s", name, error)
            continue
        metrics = place("metrics", name)
        per_chip = table("scores_per_chip", name, pd.read_csv, dtype={"chip_id": str})
        runs.append(
            RecordedRun(
                name,
                record,
                json.loads(metrics.read_text()) if metrics.is_file() else {},
                None if per_chip is None else per_chip.set_index("chip_id"),
                table("training_history", name, pd.read_parquet),
            )
        )
    if not runs:
        raise BadInputError(
            f"There is no run of this version in {shown_path(root)}: 'biomassters run' makes one."
        )
    return runs


def score_table(runs: Sequence[RecordedRun]) -> pd.DataFrame:
    """A row a run: RMSE (mean over held-out chips) and that of the baselines in Mg/ha, and more.

    ``difference`` is the RMSE less the first run's, chip by chip where both were scored on the same
    ones, with its standard error: on the same chips it is far smaller than that of either RMSE.
    """
    rows = {}
    for run in runs:
        held = run.metrics.get("interval_pixel_coverage")
        commit = run.last["code"]["commit"] or run.last["code"]["version"]
        rows[run.name] = {
            "RMSE": _number(run.metrics.get("rmse_per_chip_mean")),
            "difference": _difference(run, runs[0]),
            "ridge": _number(run.metrics.get("baseline_ridge_rmse")),
            "mean": _number(run.metrics.get("baseline_mean_rmse")),
            "coverage": "" if held is None else f"{held:.1%}",
            "chips": str(run.metrics.get("chips", "")),
            "began": run.last["started"][:16].replace("T", " "),
            "status": run.last["status"].partition(":")[0],
            "code": f"{commit[:8]}{'+' if run.last['code']['changed'] else ''}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _difference(run: RecordedRun, first: RecordedRun) -> str:
    """As in ``-1.20 ± 0.31``; nothing where the chips are others."""
    if run is first or run.per_chip is None or first.per_chip is None or run.chips != first.chips:
        return ""
    by_chip = (run.per_chip["rmse"] - first.per_chip["rmse"]).dropna()  # of the chips of both
    if len(by_chip) < 2:
        return ""
    return f"{by_chip.mean():+.2f} ± {by_chip.std() / sqrt(len(by_chip)):.2f}"


def parameter_table(runs: Sequence[RecordedRun]) -> pd.DataFrame:
    """The parameters whose values are not the same in all runs, a column a run."""
    named = {run.name: named_parameters(run.last["parameters"]) for run in runs}
    table = pd.DataFrame(named).fillna("")
    return table[table.nunique(axis=1) > 1].sort_index()


def draw_runs(runs: Sequence[RecordedRun]) -> "Figure":
    """RMSE of each run with its standard error over chips, and held-out RMSE by epoch."""
    from matplotlib import colormaps

    from biomassters.reporting.figure_style import BASELINE, INK, add_legend, dress, new_figure

    figure = new_figure(9, max(2.8, 1.2 + 0.32 * len(runs)))
    scores, curves = figure.subplots(1, 2, width_ratios=(1, 1.2))
    colours = colormaps["tab10" if len(runs) <= 10 else "viridis"]
    for number, run in enumerate(runs):
        colour = colours(number if len(runs) <= 10 else number / (len(runs) - 1))
        if run.per_chip is not None:
            rmse = run.per_chip["rmse"]
            error = rmse.std() / sqrt(len(rmse))
            look = {"fmt": "o", "markersize": 5, "capsize": 3, "color": colour}
            scores.errorbar(rmse.mean(), number, xerr=error, **look)
        ridge = run.metrics.get("baseline_ridge_rmse")
        if ridge is not None:
            label = None if scores.get_legend_handles_labels()[1] else "ridge regression"
            scores.plot(ridge, number, "D", color=BASELINE, markersize=4, label=label)
        history = pd.DataFrame() if run.history is None else run.history
        held_out = [curve for curve in curves_of(history) if curve.held_out][:1]
        for curve in held_out:
            curves.plot(curve.epochs, curve.values, ".-", color=colour, label=run.name)
    scores.set_yticks(range(len(runs)), [run.name for run in runs], color=INK)
    scores.set_ylim(len(runs) - 0.5, -0.5)
    dress(scores, f"RMSE of held-out chips ± standard error, {AGB_UNIT}", grid="both")
    dress(curves, "Epoch", f"Held-out RMSE, {AGB_UNIT}", grid="both")
    curves.xaxis.get_major_locator().set_params(integer=True)
    for axes in (scores, curves):
        if axes.get_legend_handles_labels()[1]:
            add_legend(axes)
    return figure
