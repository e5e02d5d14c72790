"""Fixtures that every test may use."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one would keep all other processes waiting."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


# Processes to be killed: one imports everything, and every start forks from it.
_SERVER = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
{setup}
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.close(0)
        try:
            {call}
        finally:
            os._exit(0)
    print(pid, flush=True)
"""


class Victims:
    """Starts the same work again and again, without importing it again.

    Args:
        setup: Statements that import it.
        call: The statement that does it.
    """

    def __init__(self, setup: str, call: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER.format(setup=setup, call=call)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._server.stdout is not None
        assert self._server.stdin is not None
        assert self._server.stdout.readline() == "ready\n"

    def start(self) -> int:
        """Starts the work; the process's id."""
        self._server.stdin.write("go\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def kill(self, pid: int) -> None:
        """Ends a process that ``start`` started, with SIGKILL, and waits until it is gone."""
        for _ in range(3000):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            time.sleep(0.001)
        raise AssertionError(f"{pid} is still there")

    def alive(self, pid: int) -> bool:
        """Whether a process still runs."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Ends the process that the others fork from."""
        self._server.communicate()


@pytest.fixture
def victims() -> Iterator[Callable[[str, str], Victims]]:
    """Makes processes to be killed: ``victims(imports, call)``."""
    made: list[Victims] = []

    def make(setup: str, call: str) -> Victims:
        made.append(Victims(setup, call))
        return made[-1]

    yield make
    for herd in made:
        herd.close()
