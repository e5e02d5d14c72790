"""Optuna's study of trainings: trials shared by processes, a journal on disk, a page.

A trial belongs to the process that holds its lock. One that nobody holds was killed: its parameters
are tried again, from its checkpoints. Optuna knows it by ``replaces`` in the next trial's notes.
"""

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.files import try_lock
from biomassters.metrics import AGB_UNIT
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.sweep.options import SweepOptions, SweepParameter, with_values
from biomassters.training.options import TrainingOptions

Train = Callable[[NetworkOptions, TrainingOptions, Path, Callable[[float], object]], float]
"""Trains in a folder, tells of each validation, and gives the held-out RMSE, Mg/ha."""

log = logging.getLogger(__name__)

_EXPERIMENT = "experiment"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_PAUSE_S = 0.05


def run_study(
    train: Train,
    folder: Path,
    data: Any,
    network: NetworkOptions,
    training: TrainingOptions,
    options: SweepOptions,
) -> optuna.Study:
    """Go on with the study in a folder, or begin it, until the budget is used.

    Args:
        train: One training.
        folder: Of the journal and of trials at work; processes that share it share the study.
        data: What the trainings learn from, for JSON; a study of other data is refused.
        network: As far as it doesn't vary.
        training: Likewise; stages that learn from every chip are left out.
        options: What varies, and the budget.

    Raises:
        BadInputError: The folder holds another study, or no trial came to its end.
    """
    stages = tuple(stage for stage in training.stages if stage.chips == "training_folds")
    training = training.model_copy(update={"stages": stages, "stop_after": None})
    fixed = training.model_dump(mode="json", exclude=set(training.free_options) - {"stages"})
    varied = [parameter.model_dump(mode="json") for parameter in options.parameters]
    facts = [data, network.model_dump(mode="json"), fixed, varied, options.seed]
    study = _open_study(folder, hashlib.sha256(json.dumps(facts).encode()).hexdigest(), options)
    space = distributions(options, network, training)
    ends = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    fault = ""
    with Progress("trying parameters", options.trials, done=len(_counted(study))) as bar:
        while time.monotonic() < ends:
            with _next_trial(study, folder, space, options) as trial:
                if trial is None:
                    break
                place = _place(folder, trial)
                validations = 0

                def report(rmse: float, trial: optuna.Trial = trial) -> None:
                    nonlocal validations
                    validations += 1
                    trial.report(rmse, validations)
                    bar.note(f"trial {trial.number}", f"held-out RMSE {rmse:.1f}")
                    if options.pruning and trial.should_prune():
                        raise optuna.TrialPruned

                try:
                    rmse = train(*with_values(network, training, trial.params), place, report)
                except optuna.TrialPruned:
                    study.tell(trial, state=TrialState.PRUNED)
                except BadInputError as error:  # such as a rate at which it diverges
                    study.tell(trial, state=TrialState.FAIL)
                    fault = str(error)
                    log.warning("Trial %d failed: %s", trial.number, fault)
                else:
                    study.tell(trial, rmse)
                shutil.rmtree(place, ignore_errors=True)
            bar.reach(len(_counted(study)))
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        why = f"; the last one failed: {fault}" if fault else "; raise sweep.trials or minutes."
        raise BadInputError(f"No trial of the sweep in {folder} came to its end{why}")
    return study


def _open_study(folder: Path, experiment: str, options: SweepOptions) -> optuna.Study:
    optuna.logging.disable_default_handler()  # its lines go where the run's do
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = JournalFileBackend(str(folder / "journal.log"))
    given: dict[str, Any] = {
        "storage": optuna.storages.JournalStorage(journal),
        "study_name": "sweep",
        "pruner": optuna.pruners.MedianPruner() if options.pruning else optuna.pruners.NopPruner(),
    }
    with _locked(folder):
        if not optuna.get_all_study_names(given["storage"]):
            optuna.create_study(**given)
        study = optuna.load_study(**given)
        if study.user_attrs.get(_EXPERIMENT, experiment) != experiment:
            raise BadInputError(
                f"{folder} holds a sweep of other chips, parameters or ranges: keep both with "
                "'--params run=NAME', or delete that folder."
            )
        if not study.user_attrs:
            study.set_user_attr(_EXPERIMENT, experiment)
    return study


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within it no other process looks for a trial."""
    with (folder / "study.lock").open("ab") as file:
        while not try_lock(file):
            time.sleep(_PAUSE_S)
        yield


@contextmanager
def _next_trial(
    study: optuna.Study, folder: Path, space: dict[str, BaseDistribution], options: SweepOptions
) -> Iterator[optuna.Trial | None]:
    """The next trial, held by this process within the block; None when all are taken."""
    with _locked(folder):
        _take_back_lost(study, folder)
        trial = None
        if len(_counted(study)) < options.trials:
            # A function of the trials before, so that processes don't begin with the same choice.
            seed = (options.seed + len(study.trials)) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed)
            trial = study.ask(space)
            held = _place(folder, trial).with_suffix(".lock").open("ab")
            try_lock(held)
    if trial is None:
        yield None
        return
    with held:
        yield trial
        Path(held.name).unlink(missing_ok=True)


def _take_back_lost(study: optuna.Study, folder: Path) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        with _place(folder, trial).with_suffix(".lock").open("ab") as file:
            if not try_lock(file):
                continue  # somebody works on it
            study.tell(trial.number, state=TrialState.FAIL)
            first = trial.user_attrs.get("first", trial.number)
            study.enqueue_trial(trial.params, {"first": first, "replaces": trial.number})


def _place(folder: Path, trial: optuna.Trial | FrozenTrial) -> Path:
    return folder / f"trial_{trial.user_attrs.get('first', trial.number):04d}"


def _counted(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that use up the budget: those at work and those that ended, but for killed ones."""
    trials = study.get_trials(deepcopy=False)
    lost = {trial.user_attrs.get("replaces") for trial in trials}
    at_work = (*_ENDED, TrialState.RUNNING)
    return [trial for trial in trials if trial.state in at_work and trial.number not in lost]


def distributions(
    options: SweepOptions, network: NetworkOptions, training: TrainingOptions
) -> dict[str, BaseDistribution]:
    """What each parameter may be, as Optuna has it."""
    now: dict[str, Any] = {"network": network.model_dump(), "training": training.model_dump()}

    def distribution(parameter: SweepParameter) -> BaseDistribution:
        low, high = parameter.low, parameter.high
        if low is None or high is None:
            return CategoricalDistribution(parameter.choices)
        value: Any = now
        for part in parameter.name.split("."):
            value = value[part]
        if isinstance(low, int) and isinstance(high, int) and not isinstance(value, float):
            return IntDistribution(low, high, log=parameter.log)
        return FloatDistribution(low, high, log=parameter.log)

    return {parameter.name: distribution(parameter) for parameter in options.parameters}


# ---- What came of it


def trial_table(study: optuna.Study) -> pd.DataFrame:
    """A row a trial that ended: its state, held-out RMSE, seconds, parameters; the best first."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "rmse_mg_per_ha": trial.value,
            "seconds": trial.duration and round(trial.duration.total_seconds(), 1),
            **trial.params,
        }
        for trial in _counted(study)
        if trial.state in _ENDED
    ]
    return pd.DataFrame(rows).sort_values("rmse_mg_per_ha", ignore_index=True)


def best_trial(study: optuna.Study) -> dict[str, Any]:
    """The best trial: number, held-out RMSE in Mg/ha, parameters, and the command that trains it.

    Its RMSE is the least of many on the same chips, and so flatters it.
    """
    best = study.best_trial
    given = ",".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in best.params.items()
    )
    return {
        "trial": best.number,
        "rmse_mg_per_ha": best.value,
        "parameters": best.params,
        "command": f"kedro run --params run=best,{given}",
    }


def render_page(study: optuna.Study) -> str:
    """A page that needs nothing but itself: the best trial, Optuna's plots, all trials."""
    from optuna import visualization

    best, table = best_trial(study), trial_table(study)
    plots = [visualization.plot_optimization_history(study, target_name=f"RMSE, {AGB_UNIT}")]
    if table["rmse_mg_per_ha"].nunique() > 1:
        plots.append(visualization.plot_param_importances(study))
        plots.append(visualization.plot_slice(study, target_name=f"RMSE, {AGB_UNIT}"))
    curves = visualization.plot_intermediate_values(study)
    plots.append(curves.update_layout(xaxis_title="Validation", yaxis_title=f"RMSE, {AGB_UNIT}"))
    drawn = [
        plot.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, plot in enumerate(plots)
    ]
    rows = table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
    least = f"{best['rmse_mg_per_ha']:.2f} {AGB_UNIT}"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Sweep</title>
<meta name="viewport" content="width=device-width">
<style>body {{font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 64em; padding: 0 1em}}
table {{border-collapse: collapse}} td, th {{padding: .2em .8em; text-align: right}}
div.table {{overflow-x: auto}} pre {{white-space: pre-wrap; overflow-wrap: anywhere}}
</style></head><body>
<h1>Sweep of {len(table)} trials</h1>
<p>Least RMSE of held-out chips: <b>{least}</b>, trial {best["trial"]}. It is the best of several on
the same chips, so other chips will see a larger one. Train and score it:</p>
<pre>{escape(best["command"])}</pre>
{"".join(drawn)}
<h2>Trials</h2>
<div class="table">{rows}</div>
</body></html>
"""
