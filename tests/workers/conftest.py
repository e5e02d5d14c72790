"""A real Dask scheduler and workers, each a process of its own on loopback."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from biomassters.chips.archive import write_archive
from biomassters.chips.chip import Chip

CHIPS = 12


def made_chip(number: int) -> Chip:
    random = np.random.default_rng(np.random.SeedSequence([number]))
    present = np.ones((12, 2), bool)
    present[number % 12, 1] = False
    s1_db = random.normal(-12, 3, (12, 4, 32, 32)).astype(np.float32)
    s2 = random.integers(1, 5000, (12, 11, 32, 32)).astype(np.uint16)
    s2[~present[:, 1]] = 0
    agb = random.gamma(1, 60, (32, 32)).astype(np.float32)
    return Chip(f"{number:08x}", "train", s1_db, s2, present, agb)


@pytest.fixture(scope="session")
def archive_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 training chips of 32 × 32 pixels."""
    root = tmp_path_factory.mktemp("made") / "archive"
    write_archive(root, map(made_chip, range(CHIPS)), progress=False)
    return root


class Cluster:
    """Processes of a cluster; every one is ended when the test is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start_scheduler(self) -> None:
        file = self._folder / "scheduler.json"
        place = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        scheduler = self._start("scheduler", "--scheduler-file", str(file), *place)
        while not (file.exists() and file.read_text().endswith("}")):
            assert scheduler.poll() is None, "the scheduler ended"
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def wait_for(self, workers: int) -> None:
        """Until so many workers are there."""
        with Client(self.address, timeout=300, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=300)

    def start_worker(self, python_path: str = "") -> "subprocess.Popen[bytes]":
        arguments = ("--no-nanny", "--nthreads", "1", "--dashboard-address", "127.0.0.1:0")
        return self._start("worker", self.address, *arguments, python_path=python_path)

    def _start(
        self, kind: str, *arguments: str, python_path: str = ""
    ) -> "subprocess.Popen[bytes]":
        path = os.pathsep.join(filter(None, (python_path, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + kind, *arguments],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    made = Cluster(tmp_path)
    try:
        made.start_scheduler()
        yield made
    finally:
        made.close()
