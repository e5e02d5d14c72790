"""Versions and cost of a run, for its report and its record."""

import platform
import resource
from importlib.metadata import PackageNotFoundError, version

import pandas as pd

RUN_FILE = "run.json"
PACKAGES = (
    "biomassters", "kedro", "torch", "timm", "numpy", "scipy", "scikit-learn", "rasterio", "zarr",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Versions of what the results depend on, by package; those that aren't there are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if platform.system() != "Darwin" else peak / 2**20


def versions_and_cost(history: pd.DataFrame) -> dict[str, str]:
    """Names and texts for the report.

    Args:
        history: The training history; ``seconds`` and ``validation_seconds`` of each epoch if
            they were measured.
    """
    packages = ", ".join(f"{name} {number}" for name, number in package_versions().items())
    facts = {
        "Software": f"Python {platform.python_version()}, {packages}",
        "Machine": f"{platform.system()} {platform.machine()}",
        "Largest memory of the process that wrote this": f"{peak_memory_mib():,.0f} MiB",
    }
    columns = [name for name in ("seconds", "validation_seconds") if name in history]
    if columns and len(history):
        seconds = float(history[columns].to_numpy().sum())
        facts["Training"] = f"{seconds / 60:,.1f} minutes over {len(history)} epochs"
    return facts
