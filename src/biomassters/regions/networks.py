"""The networks of a map: from weights files, loaded once a process."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REFERENCE_CHIP = 256  # BioMassters' chips, which the reference trains on whole


@dataclass(frozen=True)
class WeightsFiles:
    """Weights whose maps are averaged; picklable.

    Attributes:
        paths: The files.
        fingerprint: SHA-256 over the files.
        chip: Side of the chips that the first one was trained on.
    """

    paths: tuple[str, ...]
    fingerprint: str
    chip: int

    @classmethod
    def of(cls, paths: tuple[str, ...]) -> "WeightsFiles":
        """Look at weights files.

        Raises:
            BadInputError: One is missing, or its description is.
        """
        from biomassters.network.weights import read_description

        descriptions = [read_description(path) for path in paths]
        digest = hashlib.sha256()
        for path in paths:
            digest.update(_file_digest(path))
        return cls(paths, digest.hexdigest(), trained_chip(descriptions[0]))

    def load(self) -> list[Any]:
        """The networks on the CPU, in evaluation mode."""
        from biomassters.network.weights import load_network

        return [load_network(path) for path in self.paths]


def trained_chip(description: dict[str, Any]) -> int:
    """Side in pixels of what weights were trained and validated on.

    Args:
        description: The JSON beside the weights.
    """
    recipe = description.get("recipe") or {}
    side = description.get("chip_size") or recipe.get("crop") or _REFERENCE_CHIP
    return int(side)


def _file_digest(path: str) -> bytes:
    from biomassters.errors import BadInputError

    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise BadInputError(f"{path} can't be read ({error.strerror}).") from error


def job_fingerprint(facts: dict[str, Any]) -> str:
    """SHA-256 of what a map depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
