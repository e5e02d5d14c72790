"""A project folder of its own for every module that runs Kedro for real."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


# Importing the libraries takes ten seconds of a processor, and there are dozens of commands: each
# forks from a process that has done it. Kedro and the project are imported by every command anew,
# as they read the configuration meanwhile. A command that hangs ends by its alarm.
_SERVER = """
import json, os, signal, sys
import dask.distributed, matplotlib.pyplot, pandas, pyarrow.parquet, rasterio, scipy.ndimage
import sklearn.linear_model, timm, torch, zarr

for line in sys.stdin:
    arguments, folder, environment, out, err = json.loads(line)
    pid = os.fork()
    if pid:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    signal.alarm(900)
    for name, number in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(name, os.O_RDWR), number)
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
# Two threads, for two parts of a batch.
_SETTINGS = {"OMP_NUM_THREADS": "2", "COLUMNS": "200"}


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

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``kedro`` with these arguments in a project's folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            out.touch()
            err.touch()
            environment = {**os.environ, **_SETTINGS}
            given = [arguments, str(folder), environment, str(out), str(err)]
            self._process.stdin.write(json.dumps(given) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
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
    """Runs the real command line in the project: ``kedro("run", "--env", "test")``."""
    return partial(kedro_server.run, project)
