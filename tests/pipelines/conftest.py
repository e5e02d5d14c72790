"""A project folder of its own for every module that runs Kedro for real."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


# Importing the libraries takes ten seconds of a processor, and there are hundreds of commands: each
# forks from a process that has done it, and has imported what of the project doesn't know Kedro.
# Kedro and what uses it are imported by every command anew, as they read the configuration
# meanwhile. A command that hangs ends by its alarm; what is frozen, no command's garbage collector
# looks through.
_SERVER = """
import gc, importlib.util, json, os, signal, sys
import dask.distributed, dynaconf.vendor, IPython, matplotlib.pyplot, omegaconf, pandas
import plotly.express, plotly.graph_objects, plotly.subplots, pyarrow.parquet, pydantic, pyproj
import pystac, rasterio, requests, rio_cogeo, scipy.ndimage, sklearn.linear_model
import timm, torch.distributed.launcher, torch.utils.tensorboard, zarr
import biomassters.acquisition.acquire, biomassters.imagery.cube_writer, biomassters.imagery.search
import biomassters.inference.predict, biomassters.plots.plot_page, biomassters.regions.mapping
import biomassters.reporting.report, biomassters.simulation.simulated_scenes
import biomassters.submission.build, biomassters.training.train
for name in ("flask", "sqlalchemy.sql", "xarray"):  # if it is there, something imports it
    if importlib.util.find_spec(name.partition(".")[0]):
        importlib.import_module(name)
assert "kedro.framework.project" not in sys.modules
gc.freeze()

for line in sys.stdin:
    arguments, folder, environment, files = json.loads(line)
    opened = [os.open(name, os.O_RDWR | os.O_NOCTTY) for name in files]
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        for number in opened:
            os.close(number)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    signal.alarm(900)
    if os.isatty(opened[0]):
        os.setsid()
    for number, name in enumerate(opened):
        os.dup2(name, number)
        os.close(name)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["kedro", *arguments]
    code = 1
    try:
        from kedro.framework.cli.cli import main
        main()
    except SystemExit as stopped:
        code = stopped.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
os._exit(0)  # or a library that torch's launcher imports counts on stderr what it leaves behind
"""
_SETTINGS = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


class KedroServer:
    """Runs one command of Kedro's after another; ``stop`` ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **_SETTINGS},
        )

    def begin(
        self,
        folder: Path,
        arguments: Sequence[str],
        files: Sequence[Path | str],
        environment: Mapping[str, str],
    ) -> int:
        """``kedro`` with these arguments in a project's folder.

        Args:
            folder: The project's.
            arguments: Of the command.
            files: That it reads, writes to and writes its messages to.
            environment: All of it.

        Returns:
            Its process; ``code`` waits for the end.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        given = [arguments, str(folder), dict(environment), [str(file) for file in files]]
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def code(self) -> int:
        """The exit status of what was begun."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def run(
        self, folder: Path, *arguments: str, parts: int = 1
    ) -> subprocess.CompletedProcess[str]:
        """``kedro`` from start to end, on one core or with parts of a batch side by side."""
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            out.touch()
            err.touch()
            environment = {**os.environ, **_SETTINGS, "OMP_NUM_THREADS": str(parts)}
            self.begin(folder, arguments, (os.devnull, out, err), environment)
            code = self.code()
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def stop(self) -> None:
        self._process.communicate(timeout=60)


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


@pytest.fixture(scope="session")
def kedro_server() -> Iterator[KedroServer]:
    server = KedroServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def kedro(project: Path, kedro_server: KedroServer) -> Run:
    """Runs the real command line in the project: ``kedro("run", "--env", "test")``.

    On one core, where it isn't told ``parts=2``.
    """
    return partial(kedro_server.run, project)


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
def default_run(tmp_path_factory: pytest.TempPathFactory, kedro_server: KedroServer) -> DefaultRun:
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
            done = kedro_server.run(make_project(folder), "run", "--env", "test", parts=2)
            said.write_text(json.dumps([done.args, done.returncode, done.stdout, done.stderr]))
    return DefaultRun(folder / "data", subprocess.CompletedProcess(*json.loads(said.read_text())))


@pytest.fixture
def kedro_in_terminal(project: Path, kedro_server: KedroServer, in_terminal: Any) -> Any:
    """The same in a terminal: ``kedro_in_terminal(columns, "run", "--env", "test", env={...})``."""

    def run(columns: int, *arguments: str, **options: Any) -> Any:
        def begin(terminal: int, environment: dict[str, str]) -> tuple[int, Callable[[], int]]:
            files = [os.ttyname(terminal)] * 3
            return kedro_server.begin(project, arguments, files, environment), kedro_server.code

        return in_terminal(columns, begin, **options)

    return run
