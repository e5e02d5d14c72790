"""Verbs of the training pipeline."""

from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.console import part
from biomassters.datasets.network_weights import NetworkWeights, joint_weights
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.training.plan import (
    StagePlan,
    TrainedNetwork,
    as_start,
    described,
    joint_history,
    start_from_weights,
    trained_on,
)
from biomassters.training.options import FinetuningOptions, TrainingOptions


def plan_fit(
    band_scaling: dict[str, Any], network: NetworkOptions, training: TrainingOptions
) -> StagePlan:
    """Networks for the first stage, one for each fold to be held out; new, or with weights."""
    from biomassters.training.train import new_network

    scaling = BandScaling.from_dict(band_scaling)
    if training.start_from_weights is not None:
        given, started_from = start_from_weights(training, network, scaling)
        return StagePlan(training, tuple(given), trained_before=True, started_from=started_from)
    starts = tuple(
        NetworkWeights(new_network(network, scaling, training.seed))
        for _ in training.folds or (None,)
    )
    return StagePlan(training, starts, trained_before=False)


def plan_finetuning(
    fit_weights: NetworkWeights, training: TrainingOptions, finetuning: FinetuningOptions
) -> StagePlan:
    """The fitted networks for the second stage, which learns from every labelled chip."""
    options = finetuning.stage(training) if finetuning.epochs else None
    starts = fit_weights.members or (fit_weights,)
    return StagePlan(options, starts, trained_before=True, started_from=as_start(fit_weights))


def train_stage(
    plan: StagePlan, chip_store: ChipStore, folds: pd.DataFrame, checkpoints: Path, events: Path
) -> tuple[NetworkWeights, pd.DataFrame]:
    """The stage's networks trained: the weights that are kept, and their history."""
    if plan.options is None:
        untouched = joint_weights(plan.starts)
        return untouched, pd.DataFrame({"epoch": pd.Series(dtype="int64")})
    plan.check_window(chip_store.split("train"))
    plan.check_unseen(chip_store)
    held_out, networks = plan.folds(), []
    for number, fold in enumerate(held_out):
        with part(number, len(held_out)):
            networks.append(_train(plan, number, fold, chip_store, folds, checkpoints, events))
    kept = joint_weights([one.kept(plan.options.keep) for one in networks])
    return kept, joint_history(networks)


def _train(
    plan: StagePlan,
    number: int,
    fold: int | None,
    chip_store: ChipStore,
    folds: pd.DataFrame,
    checkpoints: Path,
    events: Path,
) -> TrainedNetwork:
    from biomassters.training.train import train
    from biomassters.training.validation import chips_of_folds

    assert plan.options is not None
    options = plan.options.model_copy(update={"folds": () if fold is None else (fold,)})
    network, split = plan.starts[number].first, chip_store.split("train")
    name = f"network_{number}" if fold is None else f"fold_{fold}"
    training, validation = chips_of_folds(split, folds, fold)
    result = train(
        network,
        split,
        training,
        validation,
        options,
        checkpoints / name,
        fingerprint=chip_store.fingerprint,
        initial_state=network.state_dict() if plan.trained_before else None,
        event_dir=events / name,
    )
    lineage = {
        "trained_on": trained_on(chip_store, len(training)),
        "started_from": plan.started_from,
    }
    return TrainedNetwork(network, described(chip_store, fold, options) | lineage, result)
