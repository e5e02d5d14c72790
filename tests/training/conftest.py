"""A tiny chip store whose images say something about the biomass."""

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from biomassters.chips.chip import Chip
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.training.new_network import new_network
from biomassters.training.options import TrainingOptions


@pytest.fixture(scope="session", autouse=True)
def _small_tensors(one_thread):
    """Tensors this small are slower on more threads."""


class FewChips:
    """Twelve labelled chips of one size: the more biomass, the brighter."""

    def __init__(self, side: int) -> None:
        self.side = side

    def splits(self) -> dict[str, list[str]]:
        return {"train": [f"chip{number:02d}" for number in range(12)], "test": ["unlabelled"]}

    def signature(self, chip_id: str) -> str:
        return f"{chip_id} of {self.side}"

    def read_chip(self, chip_id: str) -> Chip:
        number = sum(chip_id.encode())
        generator = np.random.default_rng(number)
        side = self.side
        rows, columns = np.mgrid[:side, :side] / side
        wave = np.sin(6 * (rows + generator.random())) * np.cos(5 * (columns + generator.random()))
        agb = np.float32(70 + 60 * wave)
        agb[0, 0] = 900.0  # an outlier that the loss leaves out
        s1 = np.float32(-20 + agb.clip(max=200) / 20 + generator.normal(size=(12, 4, side, side)))
        s2 = np.uint16(3000 - 10 * agb.clip(max=200) + 50 * generator.random((12, 11, side, side)))
        # Few months, so that tests are fast: three, in one of which Sentinel-2 saw nothing.
        present = np.zeros((12, 2), dtype=bool)
        months = generator.choice(12, 3, replace=False)
        present[months] = True
        present[months[0], 1] = False
        s1[~present[:, 0]], s2[~present[:, 1]] = -9999.0, 0
        label = None if chip_id == "unlabelled" else agb
        return Chip(chip_id, "test" if label is None else "train", s1, s2, present, label)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ChipStore:
    path: Path = tmp_path_factory.mktemp("store") / "chips.zarr"
    return write_store(path, FewChips(64), codec="none", progress=False)


def small_network(seed: int = 1) -> AgbNet:
    options = NetworkOptions(
        backbone="mobilenetv3_small_050", pretrained=False, decoder_channels=(16, 16, 8, 8, 8)
    )
    return new_network(options, BandScaling.reference(), seed)


@pytest.fixture(scope="session")
def new_small_network():
    """Makes networks that are all alike."""
    return small_network


@pytest.fixture
def small_options():
    """Makes options of a run of seconds."""

    def make(**changes) -> TrainingOptions:
        given = {
            "epochs": 2,
            "batch_size": 4,
            "crop": 32,
            "device": "cpu",
            "learning_rate": 3e-3,
            "ema_decay": None,
            "validate_every_epochs": 1,
        }
        return TrainingOptions(**{**given, **changes})

    return make


_LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def leased() -> Iterator[Callable[[Path], Callable[[], object]]]:
    """Gives another process the lease of a file, so that whoever opens it waits: ``leased(path)``.

    What it returns gives the lease back.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("leases of files are Linux's")
    holders: list[subprocess.Popen[bytes]] = []

    def lease(path: Path) -> Callable[[], object]:
        command = [sys.executable, "-c", _LEASE, str(path)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        return lambda: holder.communicate(timeout=30)

    yield lease
    for holder in holders:
        holder.kill()
        holder.wait()
