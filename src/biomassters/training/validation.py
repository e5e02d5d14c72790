"""The held-out chips' score: every chip whole, once, as it will be predicted."""

from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from biomassters.errors import BadInputError
from biomassters.inference.device import autocast
from biomassters.inference.predict import MonthNetwork, predict_batch
from biomassters.metrics import ScoreAccumulator
from biomassters.training.batch import Batch
from biomassters.training.options import TrainingOptions
from biomassters.training.step import training_precision


class ValidationStoppedError(Exception):
    """Validation was broken off because the process was asked to stop."""


def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    options: TrainingOptions,
    device: torch.device,
    *,
    chips: int,
    stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> dict[str, float]:
    """Score a network.

    Args:
        network: On the device; left in evaluation mode.
        batches: Whole chips with labels, each once.
        options: Views and precision.
        device: Where to compute.
        chips: How many, for the bar.
        stop: Asked between batches.
        progress: Whether to show a bar.

    Returns:
        Scores in Mg/ha as ``ScoreAccumulator.summary`` names them: numbers only.

    Raises:
        BadInputError: The network predicts NaN or infinite values.
        ValidationStoppedError: ``stop`` said so.
    """
    scores = ScoreAccumulator()
    precision = training_precision(device, options.precision)
    network.eval()
    bar = tqdm(total=chips, desc="Validating", unit="chip", disable=not progress, leave=False)
    with bar:
        for batch in batches:
            if stop():
                raise ValidationStoppedError
            with autocast(device, precision):
                predicted = _predict(network, batch.to(device), options)
            targets = batch.agb.numpy()
            for chip_id, prediction, target in zip(batch.chip_ids, predicted, targets, strict=True):
                _check_finite(chip_id, prediction)
                scores.update(chip_id, prediction, target)
            bar.update(len(batch))
    return {name: value for name, value in scores.summary().items() if isinstance(value, float)}


def _predict(network: nn.Module, batch: Batch, options: TrainingOptions) -> np.ndarray:
    # Negative biomass is clipped, as it is in the predictions that are handed in.
    agb_BHW = predict_batch(
        cast("MonthNetwork", network),
        batch.s1,
        batch.s2,
        batch.chip_of_month,
        len(batch),
        options.validation_views,
        clip_negative=True,
    )
    return agb_BHW.cpu().numpy()


def _check_finite(chip_id: str, prediction: np.ndarray) -> None:
    if not np.isfinite(prediction).all():
        raise BadInputError(
            f"The network predicts NaN or infinite biomass for the held-out chip {chip_id}: it has "
            "diverged; lower training.learning_rate and set training.restart=true."
        )
