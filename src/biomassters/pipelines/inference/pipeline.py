"""Weights + chip store → GeoTIFFs."""

import itertools

import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Predictions
from biomassters.errors import BadInputError
from biomassters.inference.options import InferenceOptions
from biomassters.pipelines import namespaced
from biomassters.pipelines.checks import check_same_data


def predict_held_out(
    chip_store: ChipStore, folds: pd.DataFrame, weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of the chips that the weights never saw, made while they are written."""
    from biomassters.inference.chips import predict_split
    from biomassters.training.validation import chips_of_folds

    check_same_data(weights, chip_store)
    split = chip_store.split("train")
    weights.check_window(split.height, split.width)
    shares = [
        (member.network, chips_of_folds(split, folds, fold)[1])
        for member, fold in _never_seen(weights)
    ]
    maps = (predict_split(network, split, chips, inference) for network, chips in shares)
    # Each chip by the one network that never saw it.
    provenance = weights.provenance(inference, max(split.height, split.width), networks=1)
    every = itertools.chain.from_iterable(maps)
    return Predictions(every, weights.name, weights.fingerprint, provenance)


def predict_test(
    chip_store: ChipStore, weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of the test chips, made while they are written; none where there are none."""
    from biomassters.inference.chips import predict_split

    check_same_data(weights, chip_store)
    if "test" not in chip_store.splits:  # chips of a region that all have a label
        return Predictions([], weights.name, weights.fingerprint)
    split = chip_store.split("test")
    weights.check_window(split.height, split.width)
    everything = range(len(split.chip_ids))
    maps = predict_split(weights.network, split, everything, inference)
    provenance = weights.provenance(inference, max(split.height, split.width))
    return Predictions(maps, weights.name, weights.fingerprint, provenance)


def _never_seen(weights: NetworkWeights) -> list[tuple[NetworkWeights, int]]:
    """Each network with a fold that it may be scored on.

    Raises:
        BadInputError: A network has seen every labelled chip, or nobody knows which it has seen.
    """
    members = weights.members or (weights,)
    pairs = [
        (member, fold)
        for member in members
        if (fold := member.description.get("held_out_fold")) is not None
    ]
    if len(pairs) == len(members):
        return pairs
    if all(member.description.get("data_fingerprint") is None for member in members):
        raise BadInputError(
            f"{weights.name} was trained elsewhere, and no fold is known that it never saw, so "
            "scores and intervals on held-out chips would flatter it: map the test split "
            "(--nodes inference.predict_test_chips) or chips of your own (--pipelines prediction), "
            "or, if you know such a fold, state it with '--pipelines reference_weights --params "
            "reference_held_out_fold=N'."
        )
    raise BadInputError(
        f"{weights.name} was trained on every labelled chip, or started from weights that may have "
        "been, so its score on held-out chips is not available: name a fold in training.folds and "
        "train, or leave out the pipelines inference and reporting."
    )


def create_pipeline() -> Pipeline:
    """Two nodes: the held-out fold, to be scored, and the test split, to be submitted."""
    return namespaced(
        "inference",
        Node(
            predict_held_out,
            ["chip_store", "folds", "fit_weights", "params:inference"],
            "held_out_predictions",
            name="predict_held_out_chips",
        ),
        Node(
            predict_test,
            ["chip_store", "final_weights", "params:inference"],
            "test_predictions",
            name="predict_test_chips",
        ),
    )
