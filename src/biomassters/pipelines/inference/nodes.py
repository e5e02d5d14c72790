"""Verbs of the inference pipeline."""

import itertools

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
    shares = [
        (member.network, chips_of_folds(split, folds, fold)[1])
        for member, fold in _never_seen(weights, training)
    ]
    maps = (predict_split(network, split, chips, inference) for network, chips in shares)
    return Predictions(itertools.chain.from_iterable(maps), weights.name, weights.fingerprint)


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


def _never_seen(
    weights: NetworkWeights, training: TrainingOptions
) -> list[tuple[NetworkWeights, int]]:
    """Each network with a fold that it may be scored on.

    Weights that say nothing of folds, such as the reference's, are taken at their word.

    Raises:
        BadInputError: A network has seen every labelled chip.
    """
    if "held_out_fold" not in weights.description:
        return [(weights, fold) for fold in training.folds]
    members = weights.members or (weights,)
    pairs = [(member, member.description["held_out_fold"]) for member in members]
    if any(fold is None for _, fold in pairs):
        raise BadInputError(
            f"{weights.name} was trained on every labelled chip, so its score on held-out chips is "
            "not available: name a fold in training.folds and train, or leave out the pipelines "
            "inference and reporting."
        )
    return pairs


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
