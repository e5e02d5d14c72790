"""Calibrated intervals applied to a folder of predicted maps."""

import logging
from collections.abc import Iterator

from biomassters.chips.predicted_maps import Prediction, PredictionFolder
from biomassters.console import tracked
from biomassters.uncertainty.intervals import IntervalModel

log = logging.getLogger(__name__)


def bounded_maps(
    predictions: PredictionFolder, intervals: IntervalModel, *, progress: bool = True
) -> Iterator[Prediction]:
    """Each map of a folder with its bounds, one at a time."""
    for chip_id in tracked(predictions, "adding intervals to maps", shown=progress):
        one = predictions.read(chip_id)
        bounds = intervals.bounds(one.agb_mg_per_ha)
        yield Prediction(chip_id, one.agb_mg_per_ha, one.georeference, bounds)


def say_if_borrowed(predictions: PredictionFolder, calibrated_on: str | None) -> None:
    """Say so if the intervals come from other weights than the maps.

    Weights fine-tuned on every label have no held-out chips, so they borrow the intervals of
    the weights that do. That is the best there is, and not the same.
    """
    fingerprint = predictions.weights_fingerprint
    if fingerprint is not None and calibrated_on is not None and fingerprint != calibrated_on:
        log.info(
            "The maps in %s come from weights (%s) other than those that the intervals were "
            "calibrated with: how often these intervals hold the truth was not measured.",
            predictions.path,
            predictions.weights,
        )
