"""Verbs of the training pipeline."""

from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.chips.scaling import BandScaling
from biomassters.chips.store_reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.network.options import NetworkOptions
from biomassters.training.options import TrainingOptions


def fit(
    chip_store: ChipStore,
    folds: pd.DataFrame,
    band_scaling: dict[str, Any],
    network: NetworkOptions,
    training: TrainingOptions,
    checkpoints: Path,
) -> tuple[NetworkWeights, NetworkWeights, pd.DataFrame]:
    """A network trained on every fold but one: its best weights, its last, its history."""
    from biomassters.training.chips_of_folds import chips_of_folds
    from biomassters.training.loop import train
    from biomassters.training.new_network import new_network

    split = chip_store.split("train")
    learnt, held_out = chips_of_folds(split, folds, training.held_out_fold)
    agb_net = new_network(network, BandScaling.from_dict(band_scaling), training.seed)
    result = train(
        agb_net, split, learnt, held_out, training, checkpoints, fingerprint=chip_store.fingerprint
    )
    description = {
        "data_fingerprint": chip_store.fingerprint,
        "held_out_fold": training.held_out_fold,
        "chip_size": max(split.height, split.width),
        "recipe": training.model_dump(mode="json"),
    }
    best = NetworkWeights(
        agb_net,
        {**description, "epoch": result.best_epoch, "validation_rmse": result.best_score},
        state=result.best_state,
    )
    last = NetworkWeights(
        agb_net, {**description, "epoch": training.epochs}, state=result.last_state
    )
    return best, last, result.history.merge(result.timing, on="epoch")
