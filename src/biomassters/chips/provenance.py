"""What maps were made with, and whether maps, intervals and weights belong together.

Weights have a fingerprint; maps carry that of the weights that made them, and how these were
used. A calibration holds for maps made as those that it was calibrated on: what the user chooses
(views, clipping) must be the same, what machine or data decide (precision, size of the chips,
networks averaged) is named where it differs.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biomassters.errors import BadInputError
from biomassters.io.files import JsonModel
from biomassters.messages import redact

SIMULATION_NOTE = "simulation.json"  # beside an archive that was simulated
REGION_NOTE = "chips_from_region.json"  # beside an archive that was cut from a region
_SHOWN = 12  # digits of a fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provenance(JsonModel):
    """How maps were made; None where nobody noted it.

    Attributes:
        started_from: Fingerprint of the weights that these were fine-tuned from.
        trained_on: What the weights were trained on: ``simulated``, ``dataset``, ``chips``,
            ``data_fingerprint``, ``date``.
        views: Test-time views that were averaged.
        clip_negative: Whether negative biomass was set to 0.
        precision: Arithmetic of the network.
        networks: Networks that were averaged at every pixel.
        chip_pixels: Side in pixels of what the network saw at once.
    """

    started_from: str | None = None
    trained_on: Mapping[str, Any] | None = None
    views: tuple[str, ...] | None = None
    clip_negative: bool | None = None
    precision: str | None = None
    networks: int | None = None
    chip_pixels: int | None = None

    def chosen_otherwise(self, calibrated: "Provenance") -> str:
        """Where the user chose otherwise than for the calibration, "" where not.

        An older calibration, which does not say how its maps were made, is taken at its word.
        """
        differences = []
        used, known = self.views, calibrated.views
        if used is not None and known is not None and set(used) != set(known):
            differences.append(f"views {', '.join(used)} instead of {', '.join(known)}")
        if _differ(self.clip_negative, calibrated.clip_negative):
            differences.append(f"clip_negative {self.clip_negative}".lower())
        return " and ".join(differences)

    def found_otherwise(self, calibrated: "Provenance") -> str:
        """Where machine or data differ from those of the calibration, "" where not."""
        pairs = {
            "precision": (self.precision, calibrated.precision),
            "networks averaged": (self.networks, calibrated.networks),
            "pixels a chip": (self.chip_pixels, calibrated.chip_pixels),
        }
        return ", ".join(
            f"{name} {used} instead of {known}"
            for name, (used, known) in pairs.items()
            if _differ(used, known)
        )


UNKNOWN = Provenance()


def _differ(one: Any, other: Any) -> bool:
    return one is not None and other is not None and one != other


def training_words(trained_on: Mapping[str, Any] | None) -> str:
    """What weights were trained on, in words."""
    if not trained_on:
        return "unknown data"
    name = trained_on.get("dataset") or "unknown"
    words = f"{name}, {chips} chips" if (chips := trained_on.get("chips")) else str(name)
    return f"a simulated forest ({words})" if trained_on.get("simulated") else words


def map_tags(
    weights: str, weights_fingerprint: str | None, trained_on: Mapping[str, Any] | None
) -> dict[str, str]:
    """Tags of a map's file: what it is and which weights it comes from."""
    return {
        "units": "Mg/ha",
        "weights": redact(weights),
        "weights_sha256": weights_fingerprint or "unknown",
        "trained_on": redact(training_words(trained_on)),
    }


def warn_of_simulated_weights(
    weights: str, trained_on: Mapping[str, Any] | None, images_simulated: bool, images: object
) -> None:
    """Log a warning where weights from a simulation meet images that were not simulated."""
    if trained_on and trained_on.get("simulated") and not images_simulated:
        logger.warning(
            "%s were trained on a simulated forest, and %s holds real images: no label of a real "
            "forest was ever seen, and scores and intervals of the simulation do not hold there; "
            "fine-tune on real chips before you rely on these maps.",
            weights,
            images,
        )


def check_same_weights(
    what: object, made_by: str | None, weights: str, fingerprint: str, pipelines: str
) -> None:
    """Refuse maps or a calibration (``what``) that other weights made than those in use.

    ``made_by`` is the fingerprint of those that made it, None where nobody noted it; ``pipelines``
    make it again.

    Raises:
        BadInputError: The fingerprints differ.
    """
    if made_by == fingerprint:
        return
    if made_by is None:
        raise BadInputError(
            f"{what} does not say which weights made it, so nothing shows that it was {weights}: "
            f"run '--pipelines {pipelines}' to make it again."
        )
    raise BadInputError(
        f"{what} was made by other weights ({made_by[:_SHOWN]}…) than {weights} "
        f"({fingerprint[:_SHOWN]}…): run '--pipelines {pipelines}' to make it again, or name the "
        "weights that made it with '--params weights=PATH'."
    )
