"""The held-out chips: which they are, and their score.

Every one is predicted whole, once, as it will be in inference; ``trainer.py`` asks for it after an
epoch.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.inference.device import autocast
from biomassters.inference.predict import MonthNetwork, predict_views
from biomassters.loading.batches import Batch
from biomassters.metrics import ScoreAccumulator, labelled_pixels
from biomassters.training.options import TrainingOptions
from biomassters.training.train_step import training_precision


def chips_of_folds(
    split: StoreSplit, folds: pd.DataFrame, held_out_fold: int | None
) -> tuple[list[int], list[int]]:
    """Divide the chips of a split into training and validation chips, by their indices.

    Args:
        split: Of the chip store.
        folds: Columns ``chip_id`` and ``fold``; chips of the split that it doesn't list are
            used for nothing.
        held_out_fold: The fold that validates; None for none.

    Raises:
        BadInputError: There is no such fold, or the store lacks a chip of the folds.
    """
    known = {chip_id: index for index, chip_id in enumerate(split.chip_ids)}
    missing = sorted(set(folds["chip_id"]) - known.keys())
    if missing:
        raise BadInputError(
            f"The folds list {len(missing)} chips that the chip store lacks (the first is "
            f"{missing[0]}): run the pipeline data_engineering again to bring both up to date."
        )
    numbers = sorted(folds["fold"].unique().tolist())
    if held_out_fold is not None and held_out_fold not in numbers:
        raise BadInputError(
            f"training.folds names {held_out_fold}, but the folds are {numbers}: choose among "
            "them, or [] to train on all."
        )
    held_out = folds["fold"] == held_out_fold if held_out_fold is not None else folds["fold"] < 0
    training, validation = (
        sorted(known[chip_id] for chip_id in folds.loc[mask, "chip_id"])
        for mask in (~held_out, held_out)
    )
    return training, validation


class BatchScores(ScoreAccumulator):
    """Scores of some chips' maps, negative biomass set to 0, and beside them without that.

    Attributes:
        unclipped: RMSE of each chip by view set, Mg/ha.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unclipped: list[list[float]] = []


def view_sets(options: TrainingOptions) -> list[int]:
    """How many of the views, from the first, are averaged for each score that is not clipped.

    The reference scores the image alone, with its first mirror image, and so on.
    """
    views = len(options.validation_views)
    return [views] if options.validation_score == "maps" else list(range(1, views + 1))


def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    options: TrainingOptions,
    device: torch.device,
    *,
    stop: Callable[[], bool] = lambda: False,
    validated: Callable[[int], object] = lambda chips: None,
) -> list[BatchScores] | None:
    """Score a network on one rank's share of the held-out chips; it is left in evaluation mode.

    Between batches ``stop`` is asked and ``validated`` told how many chips are done.

    Returns:
        The scores of each batch; None when ``stop`` said so.

    Raises:
        BadInputError: The network predicts NaN or infinite values.
    """
    scored: list[BatchScores] = []
    asked = options.validation_precision
    precision = training_precision(device, options.precision if asked == "auto" else asked)
    network.eval()
    done = 0
    for batch in batches:
        if stop():
            return None
        here = batch.to(device)
        with autocast(device, precision):
            agb_VBHW = predict_views(
                cast("MonthNetwork", network),
                here.images,
                here.chip_of_month,
                len(here),
                options.validation_views,
                parts=options.cpu_parts,
            )
        error_VBHW = torch.stack([agb_VBHW[:count].mean(dim=0) for count in view_sets(options)])
        error_VBHW -= here.agb
        rmse_BV = error_VBHW.square().mean(dim=(2, 3), dtype=torch.float64).sqrt().T
        predicted = agb_VBHW.mean(dim=0).clamp_(min=0.0)  # as in the maps that are handed in
        scores, targets = BatchScores(), batch.agb.numpy()
        scores.unclipped = rmse_BV.cpu().tolist()
        for chip_id, prediction, target in zip(
            batch.chip_ids, predicted.cpu().numpy(), targets, strict=True
        ):
            if not np.isfinite(prediction).all():
                raise BadInputError(
                    "The network predicts NaN or infinite biomass for the held-out chip "
                    f"{chip_id}: it has diverged; lower training.learning_rate and set "
                    "training.restart=true."
                )
            scores.update(chip_id, *labelled_pixels(prediction, target))
        scored.append(scores)
        done += len(batch)
        validated(done)
    return scored


def all_scores(shares: Sequence[Sequence[ScoreAccumulator]]) -> dict[str, float]:
    """The ranks' scores put together in the order in which one rank would have added them up.

    Args:
        shares: The batches that each rank scored; batch b is the next one of rank b mod ranks.

    Returns:
        Scores in Mg/ha as ``ScoreAccumulator.summary`` names them, numbers only, and
        ``rmse_unclipped_per_chip_mean``, of several view sets the least.
    """
    total, unclipped = ScoreAccumulator(), list[list[float]]()
    for scores in itertools.chain.from_iterable(itertools.zip_longest(*shares)):
        if scores is not None:
            total.merge(scores)
            if isinstance(scores, BatchScores):
                unclipped += scores.unclipped
    found = {name: value for name, value in total.summary().items() if isinstance(value, float)}
    if unclipped:
        means = (math.fsum(by_set) / len(unclipped) for by_set in zip(*unclipped, strict=True))
        found["rmse_unclipped_per_chip_mean"] = min(means)
    return found
