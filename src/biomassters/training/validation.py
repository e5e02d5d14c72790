"""The held-out chips' score: every chip whole, once, as it will be predicted."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import nn

from biomassters.errors import BadInputError
from biomassters.inference.device import autocast
from biomassters.inference.predict import MonthNetwork, predict_batch
from biomassters.loading.batches import Batch
from biomassters.metrics import ScoreAccumulator
from biomassters.training.options import TrainingOptions
from biomassters.training.step import training_precision


def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    options: TrainingOptions,
    device: torch.device,
    *,
    stop: Callable[[], bool] = lambda: False,
    validated: Callable[[int], object] = lambda chips: None,
) -> list[ScoreAccumulator] | None:
    """Score a network on one rank's share of the held-out chips.

    Args:
        network: On the device; left in evaluation mode.
        batches: Whole chips with labels, each once.
        options: Views and precision.
        device: Where to compute.
        stop: Asked between batches.
        validated: Told after each batch how many chips are done.

    Returns:
        The scores of each batch; None when ``stop`` said so.

    Raises:
        BadInputError: The network predicts NaN or infinite values.
    """
    scored: list[ScoreAccumulator] = []
    precision = training_precision(device, options.precision)
    network.eval()
    done = 0
    for batch in batches:
        if stop():
            return None
        with autocast(device, precision):
            predicted = _predict(network, batch.to(device), options)
        scores, targets = ScoreAccumulator(), batch.agb.numpy()
        for chip_id, prediction, target in zip(batch.chip_ids, predicted, targets, strict=True):
            _check_finite(chip_id, prediction)
            scores.update(chip_id, prediction, target)
        scored.append(scores)
        done += len(batch)
        validated(done)
    return scored


def all_scores(shares: Sequence[Sequence[ScoreAccumulator]]) -> dict[str, float]:
    """The ranks' scores put together in the order in which one rank would have added them up.

    Args:
        shares: The batches that each rank scored; batch b is the next one of rank b mod ranks.

    Returns:
        Scores in Mg/ha as ``ScoreAccumulator.summary`` names them: numbers only.
    """
    total = ScoreAccumulator()
    for scores in itertools.chain.from_iterable(itertools.zip_longest(*shares)):
        if scores is not None:
            total.merge(scores)
    return {name: value for name, value in total.summary().items() if isinstance(value, float)}


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
        parts=options.cpu_parts,
    )
    return agb_BHW.cpu().numpy()


def _check_finite(chip_id: str, prediction: np.ndarray) -> None:
    if not np.isfinite(prediction).all():
        raise BadInputError(
            f"The network predicts NaN or infinite biomass for the held-out chip {chip_id}: it has "
            "diverged; lower training.learning_rate and set training.restart=true."
        )
