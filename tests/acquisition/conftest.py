"""Servers on loopback and a small archive that they serve; nothing here leaves the machine."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.chip import Chip

REPOSITORY = Path(__file__).parents[2]
BUCKET = "forest-eu"


def small_chip(chip_id: str, split: str) -> Chip:
    """A chip of 16 × 16 pixels, determined by its name: 12 + 2 images and a label."""
    random = np.random.default_rng(np.random.SeedSequence(list(chip_id.encode())))
    present = np.zeros((12, 2), bool)
    present[:, 0] = True
    present[3:5, 1] = True
    s1_db = random.normal(-12, 3, (12, 4, 16, 16)).astype(np.float32)
    s2 = random.integers(1, 5000, (12, 11, 16, 16)).astype(np.uint16)
    agb = random.gamma(1, 60, (16, 16)).astype(np.float32) if split == "train" else None
    return Chip(chip_id, split, {"s1": s1_db, "s2": s2}, present, agb)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive as published: six chips, 88 files, addresses in the bucket."""
    root = tmp_path_factory.mktemp("published") / BUCKET
    splits = ("train", "train", "train", "train", "test", "test")
    chips = [small_chip(f"{number:08x}", split) for number, split in enumerate(splits)]
    write_archive(root, chips, progress=False)
    (root / ".generated-archive").unlink()
    for path in root.glob("*.csv"):
        table = pd.read_csv(path, dtype=str)
        split = table.get("split")
        folder = "train_agbm" if split is None else split + "_features"
        table["s3path_eu"] = f"s3://{BUCKET}/" + folder + "/" + table["filename"]
        table.to_csv(path, index=False)
    return root


@pytest.fixture
def target(published: Path, tmp_path: Path) -> Path:
    """A folder that holds only the metadata."""
    root = tmp_path / "archive"
    root.mkdir()
    for path in published.glob("*.csv"):
        shutil.copy(path, root)
    return root


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that fail on purpose: ``serve(folder, "--failures", "0.1")``."""
    running = []

    def start(root: Path, *arguments: str) -> str:
        script = REPOSITORY / "benchmarks" / "loopback_store.py"
        process = subprocess.Popen(
            [sys.executable, str(script), str(root), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{int(process.stdout.readline())}"

    yield start
    for process in running:
        process.communicate()


@pytest.fixture(scope="session")
def s3(s3_server: Any, published: Path) -> str:
    """A real S3-compatible server with the published archive in a public bucket."""
    s3_server.upload(BUCKET, published, pattern="*.tif")
    return str(s3_server.url)


@pytest.fixture(scope="session")
def options() -> Callable[..., AcquisitionOptions]:
    """Options with short pauses."""

    def make(**values: object) -> AcquisitionOptions:
        return AcquisitionOptions.model_validate({"backoff_s": 0.01, "timeout_s": 60, **values})

    return make


def contents(root: Path) -> dict[str, bytes]:
    """The archive's files by name."""
    return {path.name: path.read_bytes() for path in root.glob("*_*/*.tif")}


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    return contents
