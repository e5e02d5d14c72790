"""A project folder of its own for every module that runs Kedro for real."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tests.fixtures.forks import ONE_CORE, ForkServer

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
KEDRO = "import sys; from kedro.framework.cli.cli import main; sys.argv[0] = 'kedro'; main()"


def run_kedro(
    forks: ForkServer, folder: Path, *arguments: str, parts: int = 1
) -> "subprocess.CompletedProcess[str]":
    """``kedro`` from start to end, on one core or with parts of a batch side by side."""
    environment = {**os.environ, **ONE_CORE, "OMP_NUM_THREADS": str(parts)}
    return forks.run(KEDRO, *arguments, folder=folder, environment=environment)


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
def kedro(project: Path, forks: ForkServer) -> Run:
    """Runs the real command line in the project: ``kedro("run", "--env", "test")``.

    On one core, where it isn't told ``parts=2``.
    """
    return partial(run_kedro, forks, project)


CHIPS = ("01_raw", "02_intermediate", "03_primary", "04_feature", "05_model_input")


@dataclass(frozen=True)
class DefaultRun:
    """``kedro run --env test`` in a folder of its own, which nobody changes.

    Attributes:
        data: What it made.
        result: How it ended, and what it said.
    """

    data: Path
    result: subprocess.CompletedProcess[str]

    def copy_to(self, project: Path, *layers: str) -> Path:
        """The data of some layers, or all, in another project; where they lie now."""
        assert self.result.returncode == 0, self.result.stdout + self.result.stderr
        for layer in layers or [path.name for path in self.data.iterdir()]:
            shutil.copytree(self.data / layer, project / "data" / layer, symlinks=True)
        return project / "data"


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> DefaultRun:
    """Half a minute of a processor: run once for all processes that test, with two parts a batch.

    Whoever wants to change what it made takes a copy.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # the one of all processes
    folder, said = place / "default_run", place / "default_run.json"
    with FileLock(place / "default_run.lock"):
        if not said.exists():
            shutil.rmtree(folder, ignore_errors=True)
            done = run_kedro(forks, make_project(folder), "run", "--env", "test", parts=2)
            said.write_text(json.dumps([done.args, done.returncode, done.stdout, done.stderr]))
    return DefaultRun(folder / "data", subprocess.CompletedProcess(*json.loads(said.read_text())))


@pytest.fixture
def kedro_in_terminal(project: Path, forks: ForkServer, in_terminal: Any) -> Any:
    """The same in a terminal: ``kedro_in_terminal(columns, "run", "--env", "test", env={...})``."""

    def run(columns: int, *arguments: str, **options: Any) -> Any:
        def begin(terminal: int, environment: dict[str, str]) -> tuple[int, Callable[[], int]]:
            place = {"folder": project, "files": [os.ttyname(terminal)] * 3}
            process = forks.start(KEDRO, *arguments, environment=environment, **place)
            return process.pid, process.wait

        return in_terminal(columns, begin, **options)

    return run
