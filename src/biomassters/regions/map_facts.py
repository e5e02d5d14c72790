"""What the reader of a map must know of it: its images, its year, its weights, its intervals."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from biomassters.messages import redacted

TITLE = "Aboveground biomass"


def map_facts(
    place: str,
    simulated: bool,
    first_year: int | None,
    weights: tuple[str, ...],
    fingerprint: str,
    trained_on: Mapping[str, Any] | None,
    calibration_chips: int | None,
) -> dict[str, Any]:
    """Facts for the summary, the page and the STAC item; ready for JSON, without secrets.

    Args:
        place: Where the images lie.
        simulated: Whether they say that they were simulated.
        first_year: Of the September that they begin with, if it is known.
        weights: The weights files.
        fingerprint: Of the weights.
        trained_on: What the weights' JSON says of their training chips.
        calibration_chips: Held-out chips that the intervals were calibrated on; None: no intervals.
    """
    facts = {
        "title": TITLE,
        "images": place,
        "images_simulated": simulated,
        "year": None if first_year is None else f"September {first_year} - August {first_year + 1}",
        "weights": list(weights),
        "weights_fingerprint": fingerprint,
        "weights_trained_on": trained_on,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "caveat": _caveat(calibration_chips),
    }
    return dict(redacted(facts))


def _caveat(chips: int | None) -> str:
    if chips is None:
        return "No intervals: there is no calibration for these weights."
    return (
        f"The intervals were calibrated on {chips} held-out chips like those that the weights were "
        "trained on; in another forest, year or sensor they may be too narrow. Totals are "
        "corrected for the mean bias on these chips; the pixels of the map are not."
    )
