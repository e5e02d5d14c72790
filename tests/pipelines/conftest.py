"""A project folder of its own for every module that runs Kedro for real."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def make_project(folder: Path) -> Path:
    """A copy of the configuration; the package is the installed one, so that data stays apart."""
    shutil.copytree(REPOSITORY / "conf", folder / "conf")
    shutil.copy(REPOSITORY / ".telemetry", folder)
    settings = (REPOSITORY / "pyproject.toml").read_text()
    settings = settings.replace('source_dir = "src"', 'source_dir = "."')
    (folder / "pyproject.toml").write_text(settings)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def kedro(project: Path) -> Run:
    """Runs the real command line in the project: ``kedro("run", "--env", "test")``."""

    def run(*arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=project,
            env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
