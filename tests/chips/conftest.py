"""Tiny chips, an archive of them, and a source that a store can be packed from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import pytest

from biomassters.chips.archive.archive import write_archive
from biomassters.chips.bands import S1_NODATA_DB
from biomassters.chips.chip import Chip
from biomassters.io.raster_spec import Georeference

SIZE = 32
SOURCE_SIZE = (24, 40)
ChipMaker = Callable[..., Chip]


def build_chip(
    chip_id: str,
    split: str = "train",
    s1_months: tuple[int, ...] = tuple(range(12)),
    s2_months: tuple[int, ...] = (0, 6, 11),
    **changes: object,
) -> Chip:
    """A chip of random values, determined by its name."""
    random = np.random.default_rng(np.random.SeedSequence(list(chip_id.encode())))
    present = np.zeros((12, 2), bool)
    present[list(s1_months), 0] = True
    present[list(s2_months), 1] = True
    s1_db = random.normal(-12, 3, (12, 4, SIZE, SIZE)).astype(np.float32)
    s2 = random.integers(1, 5000, (12, 11, SIZE, SIZE)).astype(np.uint16)
    s2[:, -1] = random.integers(0, 101, (12, SIZE, SIZE))
    s1_db[~present[:, 0]] = -9999
    s2[~present[:, 1]] = 0
    agb = random.gamma(1, 60, (SIZE, SIZE)).astype(np.float32) if split == "train" else None
    values = {"s1_db": s1_db, "s2": s2, "present": present, "agb_mg_per_ha": agb, **changes}
    return Chip(chip_id, split, **values)


@pytest.fixture
def make_chip() -> ChipMaker:
    return build_chip


@pytest.fixture
def chips() -> list[Chip]:
    return [build_chip("0000000a"), build_chip("0000000b"), build_chip("0000000c", "test")]


@pytest.fixture
def archive_root(tmp_path: Path, chips: list[Chip]) -> Path:
    """Three chips of 32 × 32 pixels in the official layout: a and b for training, c for test."""
    root = tmp_path / "archive"
    write_archive(root, chips, progress=False)
    return root


@dataclass
class MadeChips:
    """Random chips by name; what is read is counted, and a chip can be made to fail.

    Attributes:
        names: Chip ids per split.
        size: Height and width, pixels.
        version: Changes every signature, and the pixels.
        fail_at: Chip whose reading raises.
        reads: Chip ids in the order of reading.
    """

    names: dict[str, list[str]] = field(
        default_factory=lambda: {"train": ["a1", "b2", "c3", "d4"], "test": ["e5", "f6"]}
    )
    size: tuple[int, int] = SOURCE_SIZE
    version: int = 0
    fail_at: str | None = None
    reads: list[str] = field(default_factory=list)

    def splits(self) -> dict[str, list[str]]:
        return self.names

    def signature(self, chip_id: str) -> str:
        return f"{chip_id} v{self.version}"

    def read_chip(self, chip_id: str) -> Chip:
        if chip_id == self.fail_at:
            raise InterruptedError(chip_id)
        self.reads.append(chip_id)
        return self.chip(chip_id)

    def chip(self, chip_id: str) -> Chip:
        split = next(split for split, names in self.names.items() if chip_id in names)
        rng = np.random.default_rng(np.random.SeedSequence([self.version, *chip_id.encode()]))
        present = rng.random((12, 2)) < 0.7
        present[0], present[5] = (True, False), (False, False)
        s1_db = rng.normal(-12, 4, (12, 4, *self.size)).astype(np.float32)
        s1_db[2:4, 2:] = S1_NODATA_DB
        s1_db[~present[:, 0]] = S1_NODATA_DB
        s2 = rng.integers(0, 65536, (12, 11, *self.size)).astype(np.uint16)
        s2[~present[:, 1]] = 0
        agb = rng.gamma(1, 60, self.size).astype(np.float32) if split == "train" else None
        where = Georeference("EPSG:3067", (10.0, 0.0, 385000.5, 0.0, -10.0, 7000000.0))
        return Chip(chip_id, split, s1_db, s2, present, agb, where)

    def __iter__(self) -> Iterator[str]:
        return (chip_id for names in self.names.values() for chip_id in names)


@pytest.fixture(scope="session")
def made_chips() -> type[MadeChips]:
    return MadeChips


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """Object storage in this process, empty."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def in_memory(memory: fsspec.AbstractFileSystem) -> Callable[[Path], str]:
    """Copies a folder to that storage: ``in_memory(folder)`` is its URL."""

    def upload(folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                place = f"/bucket/{folder.name}/{path.relative_to(folder)}"
                memory.pipe_file(place, path.read_bytes())
        return f"memory://bucket/{folder.name}"

    return upload
