"""Verbs of the inference pipeline."""

import pandas as pd

from biomassters.chips.store_reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Predictions
from biomassters.errors import BadInputError
from biomassters.inference.options import InferenceOptions
from biomassters.training.options import TrainingOptions


def predict_held_out(
    chip_store: ChipStore,
    folds: pd.DataFrame,
    weights: NetworkWeights,
    training: TrainingOptions,
    inference: InferenceOptions,
) -> Predictions:
    """Maps of the chips that the weights never saw, made while they are written."""
    from biomassters.training.chip_prediction import predict_split
    from biomassters.training.chips_of_folds import chips_of_folds

    check_same_data(weights, chip_store)
    split = chip_store.split("train")
    _, held_out = chips_of_folds(split, folds, training.held_out_fold)
    maps = predict_split(weights.network, split, held_out, inference)
    return Predictions(maps, weights.name, weights.fingerprint)


def predict_test(
    chip_store: ChipStore, weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of the test chips, made while they are written."""
    from biomassters.training.chip_prediction import predict_split

    check_same_data(weights, chip_store)
    split = chip_store.split("test")
    everything = range(len(split.chip_ids))
    maps = predict_split(weights.network, split, everything, inference)
    return Predictions(maps, weights.name, weights.fingerprint)


def check_same_data(weights: NetworkWeights, chip_store: ChipStore) -> None:
    """Refuse weights that were trained on another chip store.

    Their held-out fold could have been trained on, and nobody would see it in the score.
    Weights that say nothing of their data, such as the reference's, are let through.

    Raises:
        BadInputError: The fingerprints differ.
    """
    trained_on = weights.description.get("data_fingerprint")
    if trained_on is not None and trained_on != chip_store.fingerprint:
        raise BadInputError(
            f"{weights.name} was trained on other chips ({trained_on[:12]}…) than "
            f"{chip_store.path} holds ({chip_store.fingerprint[:12]}…): train again, or map the "
            "new chips with '--pipelines prediction', which scores nothing."
        )
