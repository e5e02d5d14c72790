"""What the reader of a map must know of it: its images, its year, its weights, its intervals."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biomassters.simulation.region_writer import NOTE

TITLE = "Aboveground biomass"


def map_facts(
    place: str,
    first_year: int | None,
    weights: tuple[str, ...],
    fingerprint: str,
    calibration_chips: int | None,
) -> dict[str, Any]:
    """Facts for the summary, the page and the STAC item; ready for JSON.

    Args:
        place: Where the images lie.
        first_year: Of the September that they begin with, if it is known.
        weights: The weights files.
        fingerprint: Of the weights.
        calibration_chips: Held-out chips that the intervals were calibrated on; None: no intervals.
    """
    from biomassters.network.weights import read_description

    trained_on = read_description(weights[0]).get("trained_on")
    return {
        "title": TITLE,
        "images": place,
        "images_simulated": (Path(place) / NOTE).is_file(),
        "year": None if first_year is None else f"September {first_year} - August {first_year + 1}",
        "weights": list(weights),
        "weights_fingerprint": fingerprint,
        "weights_trained_on": trained_on,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "caveat": _caveat(calibration_chips),
    }


def _caveat(chips: int | None) -> str:
    if chips is None:
        return "No intervals: there is no calibration for these weights."
    return (
        f"The intervals were calibrated on {chips} held-out chips like those that the weights were "
        "trained on; in another forest, year or sensor they may be too narrow. Totals are "
        "corrected for the mean bias on these chips; the pixels of the map are not."
    )
