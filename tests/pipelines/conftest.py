"""A project folder of its own for every module that runs Kedro for real."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


# Importing the libraries takes ten seconds of a processor, and there are dozens of commands: each
# forks from a process that has done it. Kedro and the project are imported by every command anew,
# as they read the configuration meanwhile. A command that hangs ends by its alarm.
_SERVER = """
import json, os, signal, sys
import dask.distributed, IPython, matplotlib.pyplot, omegaconf, pandas, plotly.graph_objects
import pyarrow.parquet, pydantic, pyproj, rasterio, requests, scipy.ndimage, sklearn.linear_model
import timm, torch.utils.tensorboard, zarr

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


@pytest.fixture
def kedro_in_terminal(project: Path, kedro_server: KedroServer, in_terminal: Any) -> Any:
    """The same in a terminal: ``kedro_in_terminal(columns, "run", "--env", "test", env={...})``."""

    def run(columns: int, *arguments: str, **options: Any) -> Any:
        def begin(terminal: int, environment: dict[str, str]) -> tuple[int, Callable[[], int]]:
            files = [os.ttyname(terminal)] * 3
            return kedro_server.begin(project, arguments, files, environment), kedro_server.code

        return in_terminal(columns, begin, **options)

    return run
