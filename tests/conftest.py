"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def _folder(variable: str, default: Path, what: str) -> Path:
    root = Path(os.environ.get(variable, default)).resolve()
    if not root.is_dir():
        pytest.skip(f"needs {what}: set {variable} to its folder")
    return root


@pytest.fixture(scope="session")
def sample_root() -> Path:
    """A few real BioMassters chips in the official layout."""
    return _folder("BIOMASSTERS_SAMPLE", SHARED / "biomassters", "real BioMassters chips")


@pytest.fixture(scope="session")
def reference_root() -> Path:
    """Weights saved as the first place saved them, with expected outputs."""
    return _folder("BIOMASSTERS_REFERENCE", SHARED / "winner", "weights of the reference network")
