"""Chip store → weights, in the stages that ``training.stages`` lists."""

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.network.options import NetworkOptions
from biomassters.pipelines import namespaced
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


def create_pipeline() -> Pipeline:
    """One node: how many stages there are is a parameter, and each resumes by itself."""
    return namespaced(
        "training",
        Node(
            train_stages,
            [
                "chip_store",
                "folds",
                "band_scaling",
                "checkpoints",
                "training_events",
                "params:network",
                "params:training",
            ],
            ["fit_weights", "final_weights", "training_history"],
            name="train_stages",
        ),
    )
