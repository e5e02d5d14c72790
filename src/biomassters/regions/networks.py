"""The networks of a map: from weights files, loaded once a process."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biomassters.errors import BadInputError

_REFERENCE_CHIP = 256  # BioMassters' chips, which the reference trains on whole


@dataclass(frozen=True)
class WeightsFiles:
    """Weights whose maps are averaged; picklable.

    Attributes:
        paths: The files.
        fingerprint: Of the weights; of a single file as calibration notes it.
        chip: Side of the chips that the first one was trained on.
        description: The first one's JSON: what it was trained on, and more.
    """

    paths: tuple[str, ...]
    fingerprint: str
    chip: int
    description: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, paths: tuple[str, ...], first: str, ensemble: tuple[str, ...] = ()
    ) -> "WeightsFiles":
        """Look at weights files.

        Args:
            paths: The files of weights that belong together; the first one's chips are the map's.
            first: Fingerprint of these weights.
            ensemble: Further files.

        Raises:
            BadInputError: A description is missing or not one of ours.
        """
        from biomassters.network.weights import read_description

        every = (*paths, *ensemble)
        descriptions = [read_description(path) for path in every]
        facts = {path: _file_digest(path) for path in ensemble}
        fingerprint = job_fingerprint({"first": first, **facts}) if facts else first
        return cls(every, fingerprint, trained_chip(descriptions[0]), descriptions[0])

    def load(self) -> list[Any]:
        """The networks on the CPU, in evaluation mode."""
        from biomassters.network.weights import load_network

        return [load_network(path) for path in self.paths]


def trained_chip(description: dict[str, Any]) -> int:
    """Side in pixels of what weights saw at once when they were trained.

    Args:
        description: The JSON beside the weights.
    """
    recipe = description.get("recipe") or {}
    side = description.get("window") or recipe.get("crop") or description.get("chip_size")
    return int(side or _REFERENCE_CHIP)


def _file_digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInputError(f"{path} can't be read ({error.strerror}).") from error


def job_fingerprint(facts: dict[str, Any]) -> str:
    """SHA-256 of what a map depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
