"""Intervals and errors that were calibrated for the weights in use, if there are any."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

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
    """

    intervals: IntervalModel
    errors: ErrorModel


def read_calibration(path: Path, weights_fingerprint: str, views: int) -> Calibration | None:
    """Read what the ``uncertainty`` pipeline wrote.

    Args:
        path: Its JSON.
        weights_fingerprint: Of the weights that map.
        views: Test-time views and networks that are averaged.

    Returns:
        None, with the reason in the log, where there is none for these weights and views.

    Raises:
        BadInputError: The file is damaged.
    """
    reason = ""
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(
            IntervalModel.from_dict(models["intervals"]), ErrorModel.from_dict(models["errors"])
        )
        if models["weights_fingerprint"] != weights_fingerprint:
            reason = f"{path} was calibrated for other weights"
        elif found.intervals.needs_spread and views < 2:
            reason = f"the intervals of {path} need more than one view (inference.views)"
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
    return found
