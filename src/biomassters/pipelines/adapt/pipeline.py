"""Archive with a few labelled chips + weights → weights of that place, errors of chips left out."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights, load_weights
from biomassters.errors import BadInputError
from biomassters.messages import counted
from biomassters.pipelines import data_engineering, namespaced
from biomassters.pipelines.training.stages import StageRunner
from biomassters.training.few_chips import AdaptOptions, few_chips_training
from biomassters.training.options import TrainingOptions

logger = logging.getLogger(__name__)


def adapt_weights(
    chip_store: ChipStore,
    folds: pd.DataFrame,
    checkpoints: Path,
    events: Path,
    training: TrainingOptions,
    adapt: AdaptOptions,
) -> tuple[NetworkWeights, NetworkWeights, pd.DataFrame]:
    """Networks without each fold, the network of all chips, and their history.

    Architecture and scaling are those of the weights that it starts from.
    """
    if training.start_from_weights is None:
        raise BadInputError(
            "training.start_from_weights names no weights to adapt: set it to starter, or to a "
            ".safetensors file."
        )
    if folds.empty:
        raise BadInputError(
            f"{chip_store.path} holds no usable chip with a label to learn from: see the column "
            "problem of the chip table, or map without labels with '--pipelines prediction'."
        )
    start = load_weights(training.start_from_weights).first
    numbers = sorted(folds["fold"].unique().tolist())
    options = few_chips_training(training, adapt, len(folds), numbers)
    logger.info(
        "Fine-tuning %s on %s: %d steps from a rate of %g.",
        training.start_from_weights,
        counted(len(folds), "labelled chip"),
        options.epochs * (len(folds) * options.crops_per_chip // options.batch_size),
        options.learning_rate,
    )
    runner = StageRunner(
        chip_store, folds, start.scaling, start.options, options, checkpoints, events
    )
    return runner.run()


def score_left_out(history: pd.DataFrame, folds: pd.DataFrame) -> dict[str, Any]:
    """RMSE of each fold's chips by the network that never saw them, Mg/ha, ready for JSON."""
    scored = history.dropna(subset=["held_out_fold", "validation_rmse_per_chip_mean"])
    last = scored.groupby("held_out_fold")["validation_rmse_per_chip_mean"].last()
    rows = [
        {"chips": folds.loc[folds["fold"] == fold, "chip_id"].tolist(), "rmse": rmse}
        for fold, rmse in last.to_dict().items()
    ]
    if not rows:
        logger.warning(
            "Nothing was left out, so how wrong maps by these weights are is not known: label "
            "another chip."
        )
        return {"rmse_per_chip_mean": None, "chips": len(folds), "left_out": []}
    mean = float(np.average(last, weights=[len(row["chips"]) for row in rows]))
    logger.info(
        "RMSE on chips left out: %.1f Mg/ha (%s).",
        mean,
        ", ".join(f"{row['rmse']:.1f}" for row in rows),
    )
    return {"rmse_per_chip_mean": mean, "chips": len(folds), "left_out": rows}


def create_pipeline() -> Pipeline:
    """Data engineering, then the fine-tuning."""
    fine_tuning = namespaced(
        "adapt",
        Node(
            adapt_weights,
            [
                "chip_store",
                "folds",
                "checkpoints",
                "training_events",
                "params:training",
                "params:adapt",
            ],
            ["fit_weights", "final_weights", "training_history"],
            name="adapt_weights",
        ),
        Node(
            score_left_out, ["training_history", "folds"], "left_out_scores", name="score_left_out"
        ),
    )
    return data_engineering.create_pipeline() + fine_tuning
