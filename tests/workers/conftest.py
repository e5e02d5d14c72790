"""A real Dask scheduler and workers, each a process of its own on loopback."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from tests.fixtures.forks import ONE_CORE, Fork, ForkServer

from biomassters.chips.archive.writer import write_archive
from biomassters.chips.chip import Chip

CHIPS = 8


def made_chip(number: int) -> Chip:
    random = np.random.default_rng(np.random.SeedSequence([number]))
    present = np.ones((12, 2), bool)
    present[number % 12, 1] = False
    s1_db = random.normal(-12, 3, (12, 4, 32, 32)).astype(np.float32)
    s2 = random.integers(1, 5000, (12, 11, 32, 32)).astype(np.uint16)
    s2[~present[:, 1]] = 0
    agb = random.gamma(1, 60, (32, 32)).astype(np.float32)
    return Chip(f"{number:08x}", "train", {"s1": s1_db, "s2": s2}, present, agb)


@pytest.fixture(scope="session")
def archive_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 training chips of 32 × 32 pixels."""
    root = tmp_path_factory.mktemp("made") / "archive"
    write_archive(root, map(made_chip, range(CHIPS)), progress=False)
    return root


class Cluster:
    """A scheduler, and workers that a test starts: processes of their own."""

    def __init__(self, forks: ForkServer, folder: Path) -> None:
        self._forks, self._folder = forks, folder
        self._workers: list[Fork] = []
        file = self._folder / "scheduler.json"
        place = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        self._scheduler = self._start("scheduler", "--scheduler-file", str(file), *place)
        while not (file.exists() and file.read_text().endswith("}")):
            assert self._scheduler.poll() is None, "the scheduler ended"
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def wait_for(self, workers: int) -> None:
        """Until the scheduler has so many workers."""
        with Client(self.address, timeout=300, set_as_default=False) as client:
            while len(client.nthreads()) != workers:
                time.sleep(0.05)

    def wait_until_done(self) -> None:
        """Until no task is in work or waits for it."""
        with Client(self.address, timeout=300, set_as_default=False) as client:
            while not client.run_on_scheduler(
                lambda dask_scheduler: all(
                    task.state == "memory" for task in dask_scheduler.tasks.values()
                )
            ):
                time.sleep(0.05)

    def start_worker(self, python_path: str = "") -> Fork:
        arguments = ("--no-nanny", "--nthreads", "1", "--dashboard-address", "127.0.0.1:0")
        self._workers.append(
            self._start("worker", self.address, *arguments, python_path=python_path)
        )
        return self._workers[-1]

    def _start(self, kind: str, *arguments: str, python_path: str = "") -> Fork:
        path = os.pathsep.join(filter(None, (python_path, os.environ.get("PYTHONPATH"))))
        return self._forks.start(
            f"from distributed.cli.dask_{kind} import main; main()",
            *arguments,
            folder=self._folder,
            files=(os.devnull,) * 3,
            environment={**os.environ, **ONE_CORE, "PYTHONPATH": path},
        )

    def end_workers(self) -> None:
        while self._workers:
            _end(self._workers.pop())
        self.wait_for(0)

    def close(self) -> None:
        _end(self._scheduler)


def _end(process: Fork) -> None:
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Iterator[Cluster]:
    made = Cluster(forks, tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture
def cluster(scheduler: Cluster) -> Iterator[Cluster]:
    """A scheduler without workers."""
    yield scheduler
    scheduler.end_workers()
