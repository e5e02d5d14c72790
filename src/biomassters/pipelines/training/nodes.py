"""Verbs of the training pipeline."""

from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.training.stages import StageRunner
from biomassters.training.options import TrainingOptions


def train_stages(
    chip_store: ChipStore,
    folds: pd.DataFrame,
    band_scaling: dict[str, Any],
    checkpoints: Path,
    events: Path,
    network: NetworkOptions,
    training: TrainingOptions,
) -> tuple[NetworkWeights, NetworkWeights, pd.DataFrame]:
    """Every stage trained: the last weights with held-out chips, the last ones, their history."""
    scaling = BandScaling.from_dict(band_scaling)
    return StageRunner(chip_store, folds, scaling, network, training, checkpoints, events).run()
