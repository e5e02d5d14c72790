"""Which code ran, with which packages, on what."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from biomassters import __version__
from biomassters.reporting.model_card import package_versions, peak_memory_mib


def code_version(project: Path) -> dict[str, Any]:
    """The package's version, and the commit of the project folder where git knows it."""
    facts: dict[str, Any] = {"version": __version__, "commit": None, "changed": None}
    commit = _git(project, "rev-parse", "HEAD")
    if commit:
        facts["commit"] = commit
        facts["changed"] = bool(_git(project, "status", "--porcelain", "--untracked-files=no"))
    return facts


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> dict[str, Any]:
    """Processor, device and packages; torch is asked only if something has loaded it."""
    torch = sys.modules.get("torch")
    device = "cpu"
    if torch is not None and torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "packages": package_versions(),
    }


def forget_peak_memory() -> None:
    """Let Linux count the process's peak memory anew; elsewhere it stays that of the whole run."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_since_forgotten_mib() -> float:
    """Largest resident memory since then, MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return peak_memory_mib()
