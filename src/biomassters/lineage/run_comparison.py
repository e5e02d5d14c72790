"""Runs side by side: their scores, the parameters in which they differ, and one picture.

A run is a folder of results that has a ``run.json``; ``biomassters compare`` prints what is here.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

# No score depends on a run's name, on a sweep in the same folder, on who works, on who is told.
_NO_SCORES = ("run", "sweep", "dask", "tracking")

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """What is known of a run; scores and history are empty before they are made.

    Attributes:
        record: Its ``run.json``.
        metrics: Scores of its held-out chips.
        per_chip: Their RMSE in Mg/ha by ``chip_id``.
        history: Of its training.
    """

    record: Mapping[str, Any]
    metrics: Mapping[str, Any]
    per_chip: "pd.Series[float]"
    history: pd.DataFrame


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


def fingerprints_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The last known fingerprint of each dataset."""
    nodes = sorted(record["nodes"].values(), key=lambda one: one["run"])
    return {name: found for node in nodes for name, found in node["fingerprints"].items()}


def read_runs(catalog: CatalogProtocol, names: Sequence[str] = ()) -> dict[str, RecordedRun]:
    """Runs by name.

    Args:
        catalog: Of any environment: what it calls the files of one run, others call theirs.
        names: Which runs; none: all that there are, but for records of other versions.

    Raises:
        BadInputError: There is no such run, or none at all.
    """

    def place(dataset: str, run: str) -> Path:
        path = Path(str(getattr(catalog[dataset], "_filepath", "")))
        return path.parent.parent / run / path.name

    def table(dataset: str, run: str, read: Any, **how: Any) -> pd.DataFrame:
        path = place(dataset, run)
        return read(path, **how) if path.is_file() else pd.DataFrame({"chip_id": [], "rmse": []})

    root, file = place(DATASET, "").parent, place(DATASET, "").name
    known = sorted(path.parent.name for path in root.glob(f"*/{file}"))
    runs = {}
    for name in names or known:
        if name not in known:
            raise BadInputError(f"There is no run '{name}'; {hint(name, known)}")
        try:
            record = read_record(place(DATASET, name))
        except BadInputError as error:
            if names:
                raise
            log.warning("%s is left out: %s", name, error)
            continue
        metrics = place("metrics", name)
        per_chip = table("scores_per_chip", name, pd.read_csv, dtype={"chip_id": str})
        runs[name] = RecordedRun(
            record,
            json.loads(metrics.read_text()) if metrics.is_file() else {},
            per_chip.set_index("chip_id")["rmse"],
            table("training_history", name, pd.read_parquet),
        )
    if not runs:
        raise BadInputError(
            f"There is no run of this version in {shown_path(root)}: 'biomassters run' makes one."
        )
    return runs


def score_table(runs: Mapping[str, RecordedRun]) -> pd.DataFrame:
    """A row a run: RMSE (mean over held-out chips) and that of the baselines in Mg/ha, and more.

    ``difference`` is the RMSE less the first run's, chip by chip where both were scored on the same
    ones, with its standard error: on the same chips it is far smaller than that of either RMSE.
    """
    rows, first = {}, next(iter(runs.values()))
    for name, run in runs.items():
        last, change = run.record["runs"][-1], (run.per_chip - first.per_chip).dropna()
        chips = [fingerprints_of(one.record).get("chip_store") for one in (first, run)]
        comparable = run is not first and chips[0] == chips[1] and len(change) > 1
        commit = last["code"]["commit"] or last["code"]["version"]
        rows[name] = {
            "RMSE": _shown(run.metrics.get("rmse_per_chip_mean"), ".2f"),
            "difference": "{:+.2f} ± {:.2f}".format(*change.agg(["mean", "sem"]))
            if comparable
            else "",
            "ridge": _shown(run.metrics.get("baseline_ridge_rmse"), ".2f"),
            "mean": _shown(run.metrics.get("baseline_mean_rmse"), ".2f"),
            "coverage": _shown(run.metrics.get("interval_pixel_coverage"), ".1%"),
            "chips": _shown(run.metrics.get("chips"), ""),
            "began": last["started"][:16].replace("T", " "),
            "status": last["status"].partition(":")[0],
            "code": f"{commit[:8]}{'+' if last['code']['changed'] else ''}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _shown(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def parameter_table(runs: Mapping[str, RecordedRun]) -> pd.DataFrame:
    """The parameters whose values are not the same in all runs, a column a run.

    Those of ``_NO_SCORES`` are left out.
    """
    named = {
        name: dict(flatten(run.record["runs"][-1]["parameters"])) for name, run in runs.items()
    }
    table = pd.DataFrame(named).fillna("").sort_index()
    other = table.index.str.split(".").str[0].isin(_NO_SCORES)
    return table[~other & (table.nunique(axis=1) > 1)]


def draw_runs(runs: Mapping[str, RecordedRun]) -> "Figure":
    """RMSE of each run with its standard error over chips, and held-out RMSE by epoch."""
    from matplotlib import colormaps

    from biomassters.reporting.figure_style import BASELINE, INK, add_legend, dress, new_figure

    figure = new_figure(9, max(2.8, 1.2 + 0.32 * len(runs)))
    scores, curves = figure.subplots(1, 2, width_ratios=(1, 1.2))
    ridge = [run.metrics.get("baseline_ridge_rmse", float("nan")) for run in runs.values()]
    scores.plot(
        ridge, range(len(runs)), "D", color=BASELINE, markersize=4, label="ridge regression"
    )
    colours = colormaps["tab10" if len(runs) <= 10 else "viridis"].resampled(max(10, len(runs)))
    for number, (name, run) in enumerate(runs.items()):
        mean, error, colour = run.per_chip.mean(), run.per_chip.sem(), colours(number)
        scores.errorbar(mean, number, xerr=error, fmt="o", markersize=5, capsize=3, color=colour)
        for curve in [one for one in curves_of(run.history) if one.held_out][:1]:
            curves.plot(curve.epochs, curve.values, ".-", color=colour, label=name)
    scores.set_yticks(range(len(runs)), list(runs), color=INK)
    scores.set_ylim(len(runs) - 0.5, -0.5)
    dress(scores, f"RMSE of held-out chips ± standard error, {AGB_UNIT}", grid="both")
    dress(curves, "Epoch", f"Held-out RMSE, {AGB_UNIT}", grid="both")
    curves.xaxis.get_major_locator().set_params(integer=True)
    for axes in (scores, curves):
        if axes.get_legend_handles_labels()[1]:
            add_legend(axes)
    return figure
