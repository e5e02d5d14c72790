"""Whether maps, calibration, weights and chips belong together; asked before a stage works."""

import json
import logging
from pathlib import Path
from typing import Any

from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.chips.provenance import Provenance, check_same_weights
from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.errors import BadInputError
from biomassters.network.starter import calibration_file
from biomassters.uncertainty.intervals import IntervalModel

logger = logging.getLogger(__name__)


def check_maps(predictions: PredictionFolder, weights: NetworkWeights, pipelines: str) -> None:
    """Refuse maps that other weights made, as after training again.

    Args:
        predictions: The maps.
        weights: The weights in use.
        pipelines: Those that make such maps again.

    Raises:
        BadInputError: They don't belong together.
    """
    made_by = predictions.weights_fingerprint
    check_same_weights(predictions.path, made_by, weights.name, weights.fingerprint, pipelines)


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


def check_calibration(calibration: dict[str, Any], weights: NetworkWeights) -> None:
    """Refuse intervals that were calibrated for other weights.

    Weights fine-tuned on every label have no held-out chips; they borrow the intervals of those
    that they started from.

    Raises:
        BadInputError: They don't belong together.
    """
    made_for = calibration.get("weights_fingerprint")
    if made_for is not None and made_for == weights.started_from:
        return
    what = "The calibration of intervals (uncertainty.json)"
    check_same_weights(what, made_for, weights.name, weights.fingerprint, "inference,uncertainty")


def interval_note(predictions: PredictionFolder, calibration: dict[str, Any]) -> str:
    """What is to be known of intervals at these maps, for the files' tags.

    Raises:
        BadInputError: The maps were made with other views, or clipped otherwise, than those that
            the intervals were calibrated on.
    """
    calibrated = Provenance.from_dict(calibration.get("made_with"))
    chosen = predictions.provenance.chosen_otherwise(calibrated)
    if chosen:
        raise BadInputError(
            f"The maps in {predictions.path.name} were made with {chosen}, for which the intervals "
            "were not calibrated: predict again with the inference options of the calibration, or "
            "calibrate again with these ('--pipelines inference,uncertainty')."
        )
    notes = [f"level {calibration['level']:g}"]
    found = predictions.provenance.found_otherwise(calibrated)
    if found:
        notes.append(f"calibrated on maps made otherwise ({found})")
        logger.warning(
            "The intervals of %s were calibrated on maps made otherwise (%s): how often they hold "
            "there was not measured.",
            predictions.path,
            found,
        )
    if predictions.weights_fingerprint != calibration["weights_fingerprint"]:
        notes.append("calibrated for the weights that these were fine-tuned from")
    return "; ".join(notes)


def intervals_for(
    predictions: PredictionFolder, weights: NetworkWeights, run_calibration: Path
) -> tuple[IntervalModel | None, str]:
    """The intervals that maps may have, or why there are none.

    Args:
        predictions: The maps.
        weights: That made them; a calibration may have been handed on beside their file.
        run_calibration: What the pipeline ``uncertainty`` wrote.
    """
    file = calibration_file(weights.name, run_calibration)
    if not file.is_file():
        return None, "No intervals were calibrated for these weights."
    calibration = json.loads(file.read_text(encoding="utf-8"))
    try:
        check_calibration(calibration, weights)
        interval_note(predictions, calibration)
    except BadInputError as error:
        return None, f"Coverage was not counted: {error}"
    return IntervalModel.from_dict(calibration["intervals"]), ""
