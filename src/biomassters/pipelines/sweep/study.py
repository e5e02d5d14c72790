"""Optuna's study of trainings: trials shared by processes, a journal on disk, a page.

Optuna's own heartbeats need a database, so here a process holds a lock in the folder of the trial
that it works on. A running trial whose lock is free was left by a process that was stopped or
killed, and is gone on with, from its checkpoints.
"""

import fcntl
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import IO, Any

import optuna
import pandas as pd
from markupsafe import Markup
from optuna import distributions as kinds
from optuna import visualization
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.files import try_lock
from biomassters.metrics import AGB_UNIT
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.sweep.options import SweepOptions, option_tree, with_values
from biomassters.reporting.pages import render
from biomassters.training.options import TrainingOptions

Train = Callable[[NetworkOptions, TrainingOptions, Path, Callable[[float], object]], float]
"""Trains in a folder, tells of each validation, and gives the held-out RMSE, Mg/ha."""

Space = dict[str, kinds.BaseDistribution]
"""What each parameter may be, as Optuna has it."""

log = logging.getLogger(__name__)


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
    # A checkpoint an epoch, so that no validation that was reported is done again.
    sole = {"stages": stages, "stop_after": None, "checkpoint_every_epochs": 1}
    training = training.model_copy(update=sole)
    fixed = training.model_dump(mode="json", exclude=set(training.free_options) - {"stages"})
    varied = [parameter.model_dump(mode="json") for parameter in options.parameters]
    facts = [data, network.model_dump(mode="json"), fixed, varied, options.seed]
    study = _open_study(folder, hashlib.sha256(json.dumps(facts).encode()).hexdigest())
    space = distributions(options, network, training)
    ends = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    fault = "raise sweep.trials or minutes."

    def report(trial: Trial, rmse: float) -> None:
        trial.report(rmse, len(study.trials[trial.number].intermediate_values) + 1)
        bar.note(f"trial {trial.number}", f"held-out RMSE {rmse:.1f}")
        if options.pruning and trial.should_prune():
            raise optuna.TrialPruned

    with Progress("trying parameters", options.trials, done=len(_ended(study))) as bar:
        while time.monotonic() < ends and (begun := _next_trial(study, folder, space, options)):
            trial, lock = begun
            place = Path(lock.name).parent
            with lock:
                result: dict[str, Any]
                try:
                    chosen = with_values(network, training, trial.params)
                    result = {"values": train(*chosen, place, partial(report, trial))}
                except optuna.TrialPruned:
                    result = {"state": TrialState.PRUNED}
                except BadInputError as error:  # such as a rate at which it diverges
                    result, fault = {"state": TrialState.FAIL}, f"the last one failed: {error}"
                    log.warning("Trial %d failed: %s", trial.number, error)
                with _in_turn(folder):
                    study.tell(trial, **result)
                    shutil.rmtree(place, ignore_errors=True)
            bar.reach(len(_ended(study)))
    if not any(trial.state is TrialState.COMPLETE for trial in _ended(study)):
        raise BadInputError(f"No trial of the sweep in {folder} came to its end; {fault}")
    return study


def _open_study(folder: Path, experiment: str) -> optuna.Study:
    optuna.logging.disable_default_handler()  # its lines go where the run's do
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    with _in_turn(folder):
        if not optuna.get_all_study_names(storage):
            optuna.create_study(storage=storage, study_name="sweep")
        study = optuna.load_study(storage=storage, study_name="sweep")  # prunes by the median
        if study.user_attrs.get("experiment", experiment) != experiment:
            raise BadInputError(
                f"{folder} holds a sweep of other chips, parameters or ranges: keep both with "
                "'--params run=NAME', or delete that folder."
            )
        if not study.user_attrs:
            study.set_user_attr("experiment", experiment)
    return study


@contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """Within it no other process begins or ends a trial."""
    with (folder / "study.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _next_trial(
    study: optuna.Study, folder: Path, space: Space, options: SweepOptions
) -> tuple[Trial, IO[bytes]] | None:
    """A trial and the lock that holds it: one that was left, or a new one; None without either."""

    def lock(number: int) -> IO[bytes] | None:
        place = folder / f"trial_{number:04d}"
        place.mkdir(exist_ok=True)
        file = (place / "lock").open("ab")
        if try_lock(file):
            return file
        file.close()
        return None

    with _in_turn(folder):
        for left in study.get_trials(states=(TrialState.RUNNING,)):
            if held := lock(left.number):
                return Trial(study, left._trial_id), held
        if len(study.trials) >= options.trials:
            return None
        # A function of the trials before, so that processes don't begin with the same choice.
        seed = (options.seed + len(study.trials)) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = study.ask(space)
        held = lock(trial.number)
        assert held is not None, "nobody else knows of it"
        return trial, held


def distributions(
    options: SweepOptions, network: NetworkOptions, training: TrainingOptions
) -> Space:
    """What each parameter may be, as Optuna has it."""
    now = option_tree(network, training)
    space: Space = {}
    for one in options.parameters:
        if one.low is None or one.high is None:
            space[one.name] = kinds.CategoricalDistribution(one.choices)
        elif float in map(type, (one.low, one.high, reduce(getitem, one.name.split("."), now))):
            space[one.name] = kinds.FloatDistribution(one.low, one.high, log=one.log)
        else:
            space[one.name] = kinds.IntDistribution(int(one.low), int(one.high), log=one.log)
    return space


# ---- What came of it


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.trials if trial.state.is_finished()]


def trial_table(study: optuna.Study) -> pd.DataFrame:
    """A row a trial that ended: its state, held-out RMSE, seconds, parameters; the best first."""
    table = study.trials_dataframe(("number", "state", "value", "duration", "params"))
    table.columns = table.columns.str.removeprefix("params_")
    names = {"number": "trial", "value": "rmse_mg_per_ha", "duration": "seconds"}
    table = table[table["state"] != "RUNNING"].rename(columns=names)
    table["seconds"] = table["seconds"].dt.total_seconds().round(1)
    table["state"] = table["state"].str.lower()
    return table.sort_values("rmse_mg_per_ha", ignore_index=True)


def best_trial(study: optuna.Study) -> dict[str, Any]:
    """The best trial: number, held-out RMSE in Mg/ha, parameters, and the command that trains it.

    Its RMSE is the least of many on the same chips, and so flatters it.
    """
    best = study.best_trial
    given = [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in best.params.items()
    ]
    return {
        "trial": best.number,
        "rmse_mg_per_ha": best.value,
        "parameters": best.params,
        "command": f"kedro run --params {','.join(['run=best', *given])}",
    }


def render_page(study: optuna.Study) -> str:
    """A page that needs nothing but itself: the best trial, Optuna's plots, all trials."""
    table, unit = trial_table(study), f"RMSE, {AGB_UNIT}"
    plots = [visualization.plot_optimization_history(study, target_name=unit)]
    if table["rmse_mg_per_ha"].nunique() > 1:
        plots.append(visualization.plot_param_importances(study))
        plots.append(visualization.plot_slice(study, target_name=unit))
    curves = visualization.plot_intermediate_values(study)
    plots.append(curves.update_layout(xaxis_title="Validation", yaxis_title=unit))
    drawn = [plot.to_html(full_html=False, include_plotlyjs=plot is plots[0]) for plot in plots]
    rows = table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
    return render(
        "pipelines.sweep", "sweep.html.j2", best=best_trial(study), trials=len(table),
        plots=map(Markup, drawn), table=Markup(rows),
    )  # fmt: skip
