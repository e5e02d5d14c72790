"""Verbs of the uncertainty pipeline."""

from typing import Any

import pandas as pd

from biomassters.chips.folds import blocks_of
from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Predictions
from biomassters.pipelines.checks import (
    check_calibration,
    check_maps,
    check_same_data,
    interval_note,
)
from biomassters.uncertainty.carbon import account_for_carbon
from biomassters.uncertainty.cross_calibration import calibrate
from biomassters.uncertainty.intervals import IntervalModel, bounded_maps, say_if_borrowed
from biomassters.uncertainty.options import UncertaintyOptions


def calibrate_uncertainty(
    predictions: PredictionFolder,
    chip_store: ChipStore,
    weights: NetworkWeights,
    folds: pd.DataFrame,
    uncertainty: UncertaintyOptions,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Intervals and errors of totals; measured coverage by level, by biomass class, by chip."""
    check_maps(predictions, weights, "inference,uncertainty")
    check_same_data(weights, chip_store)
    predictions.check_files()
    split, blocks = chip_store.split("train"), blocks_of(folds)
    found = calibrate(split, predictions, list(predictions), uncertainty, blocks)
    models = {
        "level": uncertainty.level,
        "weights": predictions.weights,
        "weights_fingerprint": predictions.weights_fingerprint,
        "made_with": predictions.provenance.to_dict(),
        "data_fingerprint": chip_store.fingerprint,
        "intervals": found.intervals.to_dict(),
        "errors": found.errors.to_dict(),
        "measured": found.metrics(),
    }
    return models, found.levels, found.coverage.by_class(), found.coverage.per_chip()


def bound_maps(
    predictions: PredictionFolder, weights: NetworkWeights, uncertainty: dict[str, Any]
) -> Predictions:
    """Maps with a lower and an upper bound as second and third band, made while written."""
    check_maps(predictions, weights, "inference,uncertainty")
    check_calibration(uncertainty, weights)
    note = interval_note(predictions, uncertainty)
    say_if_borrowed(predictions, uncertainty["weights_fingerprint"])
    intervals = IntervalModel.from_dict(uncertainty["intervals"])
    maps = bounded_maps(predictions, intervals)
    fingerprint, provenance = predictions.weights_fingerprint, predictions.provenance
    return Predictions(maps, predictions.weights, fingerprint, provenance, note)


def bound_archive(
    predictions: PredictionFolder, weights: NetworkWeights, uncertainty: dict[str, Any]
) -> Predictions:
    """The same of any archive's maps."""
    check_maps(predictions, weights, "prediction,prediction_bounds")
    return bound_maps(predictions, weights, uncertainty)


def count_carbon(
    held_out: PredictionFolder,
    test: PredictionFolder,
    fit_weights: NetworkWeights,
    final_weights: NetworkWeights,
    chip_store: ChipStore,
    models: dict[str, Any],
    measured: pd.DataFrame,
    folds: pd.DataFrame,
    uncertainty: UncertaintyOptions,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Biomass and carbon of both splits and of every chip, in Mg, with intervals."""
    for maps, weights in ((held_out, fit_weights), (test, final_weights)):
        check_maps(maps, weights, "inference,uncertainty")
        check_calibration(models, weights)
    split = chip_store.split("train")
    blocks = blocks_of(folds)
    return account_for_carbon(split, held_out, test, models, measured, uncertainty, blocks)
