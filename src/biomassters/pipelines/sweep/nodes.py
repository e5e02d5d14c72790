"""Verbs of the sweep pipeline; Optuna, an extra, is imported where it is used."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.sweep.options import SweepOptions
from biomassters.pipelines.training.stages import StageRunner
from biomassters.training.options import TrainingOptions

Study = Any  # Optuna's; Kedro resolves the annotations of nodes, also where Optuna isn't there


def run_trials(
    chip_store: ChipStore,
    folds: pd.DataFrame,
    band_scaling: dict[str, Any],
    work: Path,
    network: NetworkOptions,
    training: TrainingOptions,
    sweep: SweepOptions,
) -> Study:
    """Trainings with parameters that the study chooses, until the budget is used."""
    from biomassters.pipelines.sweep.study import run_study

    scaling = BandScaling.from_dict(band_scaling)

    def train(
        network: NetworkOptions,
        training: TrainingOptions,
        place: Path,
        on_validation: Callable[[float], object],
    ) -> float:
        chips, places = (chip_store, folds, scaling), (place / "checkpoints", place / "events")
        fit, *_ = StageRunner(*chips, network, training, *places, on_validation).run()
        return fmean(one.description["validation_rmse"] for one in fit.members or (fit,))

    data = [chip_store.fingerprint, folds.to_json(), band_scaling]
    return run_study(train, work, data, network, training, sweep)


def report_trials(study: Study) -> tuple[pd.DataFrame, dict[str, Any], str]:
    """Every trial in a table, the best with the command that trains it, and a page of both."""
    from biomassters.pipelines.sweep.study import best_trial, render_page, trial_table

    return trial_table(study), best_trial(study), render_page(study)
