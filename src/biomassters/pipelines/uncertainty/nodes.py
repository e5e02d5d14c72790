"""Verbs of the uncertainty pipeline."""

from typing import Any

import pandas as pd

from biomassters.chips.predictions import PredictionFolder
from biomassters.chips.store_reader import ChipStore
from biomassters.datasets.predictions import Predictions
from biomassters.reporting.bounds import bounded_maps, say_if_borrowed
from biomassters.reporting.calibration import calibrate
from biomassters.reporting.carbon_account import account_for_carbon
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions


def calibrate_uncertainty(
    predictions: PredictionFolder, chip_store: ChipStore, uncertainty: UncertaintyOptions
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Intervals and errors of totals; measured coverage by level, by biomass class, by chip."""
    predictions.check_files()
    found = calibrate(chip_store.split("train"), predictions, list(predictions), uncertainty)
    models = {
        "level": uncertainty.level,
        "weights": predictions.weights,
        "weights_fingerprint": predictions.weights_fingerprint,
        "data_fingerprint": chip_store.fingerprint,
        "intervals": found.intervals.to_dict(),
        "errors": found.errors.to_dict(),
        "measured": found.metrics(),
    }
    return models, found.levels, found.coverage.by_class(), found.coverage.per_chip()


def bound_maps(predictions: PredictionFolder, uncertainty: dict[str, Any]) -> Predictions:
    """Maps with a lower and an upper bound as second and third band, made while written."""
    say_if_borrowed(predictions, uncertainty["weights_fingerprint"])
    intervals = IntervalModel.from_dict(uncertainty["intervals"])
    maps = bounded_maps(predictions, intervals)
    return Predictions(maps, predictions.weights, predictions.weights_fingerprint)


def count_carbon(
    held_out: PredictionFolder,
    test: PredictionFolder,
    chip_store: ChipStore,
    models: dict[str, Any],
    measured: pd.DataFrame,
    uncertainty: UncertaintyOptions,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Biomass and carbon of both splits and of every chip, in Mg, with intervals."""
    split = chip_store.split("train")
    return account_for_carbon(split, held_out, test, models, measured, uncertainty)
