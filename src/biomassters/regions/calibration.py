"""Intervals and errors that were calibrated for the weights in use, if there are any."""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from biomassters.chips.provenance import UNKNOWN, Provenance
from biomassters.errors import BadInputError
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """How wrong maps of some weights are.

    Attributes:
        intervals: Of pixels.
        errors: Of totals.
        note: Where the maps that it was calibrated on were made otherwise than this one.
    """

    intervals: IntervalModel
    errors: ErrorModel
    note: str = ""


def read_calibration(
    path: Path, weights_fingerprint: str, views: int, made_with: Provenance = UNKNOWN
) -> Calibration | None:
    """Read what the ``uncertainty`` pipeline wrote.

    Args:
        path: Its JSON.
        weights_fingerprint: Of the weights that map.
        views: Test-time views and networks that are averaged.
        made_with: How the map is made.

    Returns:
        None, with the reason in the log, where there is none for these weights and views. Where
        machine or data alone differ, the calibration with a note, which the log has too.

    Raises:
        BadInputError: The file is damaged.
    """
    reason = ""
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(
            IntervalModel.from_dict(models["intervals"]), ErrorModel.from_dict(models["errors"])
        )
        calibrated = Provenance.from_dict(models.get("made_with"))
        chosen = made_with.chosen_otherwise(calibrated)
        if models["weights_fingerprint"] != weights_fingerprint:
            reason = f"{path} was calibrated for other weights"
        elif chosen:
            reason = f"{path} was calibrated on maps made otherwise; this one has {chosen}"
    except FileNotFoundError:
        reason = f"there is no {path}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{path} is damaged ({error}): run '--pipelines uncertainty' again, or delete it to "
            "map without intervals."
        ) from error
    if reason:
        log.warning(
            "The map gets no intervals, and its lower and upper bands no data: %s; run "
            "'--pipelines uncertainty' for them.",
            reason,
        )
        return None
    note = made_with.found_otherwise(calibrated)
    if note:
        log.warning(
            "The intervals were calibrated on maps made otherwise (%s): how often they hold here "
            "was not measured.",
            note,
        )
    return replace(found, note=note)
