"""Chips for benchmarks, of full size and as compressible as real ones.

Where the real chip 000aa810 is at hand, they are shifted and mirrored copies of it;
elsewhere smooth fields with noise.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from biomassters.chips.archive.archive import Archive
from biomassters.chips.bands import CLP_NONE, MONTH_COUNT, S1, S1_NODATA_DB, S2
from biomassters.chips.chip import Chip

REAL_CHIP = "000aa810"
SAMPLE = Path(__file__).parents[2] / "shared" / "biomassters"
SIZE = 256
ABSENT_S2 = 3  # a chip has 11 of 12 Sentinel-2 months in the median; December is rarest


class ArchiveChips:
    """All chips of an archive, as a source for a store."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.read_chip = archive.read_chip
        self.signature = archive.signature

    def splits(self) -> dict[str, list[str]]:
        """Train chips only."""
        return {"train": self._archive.chip_ids("train")}


def describe_source() -> str:
    """What the chips are made from."""
    return f"the real chip {REAL_CHIP}" if _real_chip() else "smooth fields with noise"


def benchmark_chips(count: int) -> Iterator[Chip]:
    """Yield chips with 12 months of Sentinel-1, 11 of Sentinel-2 and a label."""
    template = _real_chip() or _made_up_chip()
    s2_months = np.flatnonzero(template.present[:, 1])
    for number in range(count):
        random = np.random.default_rng(number)
        down, right = random.integers(SIZE, size=2)
        order = np.resize(random.permutation(s2_months), MONTH_COUNT)
        present = np.ones((MONTH_COUNT, 2), bool)
        present[ABSENT_S2, 1] = False
        s2 = _shifted(template.images["s2"][order], down, right, number % 2 == 0)
        s2[ABSENT_S2] = 0
        yield Chip(
            f"{number:08x}",
            "train",
            {"s1": _shifted(template.images["s1"], down, right, number % 2 == 0), "s2": s2},
            present,
            _shifted(template.agb_mg_per_ha, down, right, number % 2 == 0),
        )


def _shifted(array: Any, down: int, right: int, mirrored: bool) -> Any:
    moved = np.roll(array, (down, right), axis=(-2, -1))
    return np.ascontiguousarray(moved[..., ::-1] if mirrored else moved)


def _real_chip() -> Chip | None:
    root = Path(os.environ.get("BIOMASSTERS_SAMPLE", SAMPLE))
    if not root.is_dir():
        return None
    return Archive.open(root).read_chip(REAL_CHIP)


def _made_up_chip() -> Chip:
    random = np.random.default_rng(0)

    def field(*shape: int) -> NDArray[np.float32]:
        noise = random.normal(size=(*shape, SIZE, SIZE)).astype(np.float32)
        smooth = gaussian_filter(noise, (*(0,) * len(shape), 4, 4))
        return smooth / smooth.std() + 0.3 * noise

    s1_db = -12 + 2 * field(MONTH_COUNT, len(S1.bands))
    s1_db[2:8, 2:] = S1_NODATA_DB
    s2 = (900 + 200 * field(MONTH_COUNT, len(S2.bands))).clip(1, 10_000).astype(np.uint16)
    s2[:, -1] = CLP_NONE
    agb = (60 + 40 * field()).clip(0)
    return Chip("made", "train", {"s1": s1_db, "s2": s2}, np.ones((MONTH_COUNT, 2), bool), agb)
