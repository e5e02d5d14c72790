"""Small made-up chips whose biomass shows in their bands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from biomassters.chips.bands import S1_NODATA_DB
from biomassters.chips.chip import Chip

SIZE = (32, 48)


@dataclass
class ChipsInMemory:
    """The part of a store's split that reporting uses."""

    chips: Sequence[Chip]
    height: int = SIZE[0]
    width: int = SIZE[1]
    images_read: list[str] = field(default_factory=list)

    @property
    def chip_ids(self) -> tuple[str, ...]:
        return tuple(chip.chip_id for chip in self.chips)

    def read_chip(self, index: int) -> Chip:
        self.images_read.append(self.chips[index].chip_id)
        return self.chips[index]

    def read_agb_into(self, index: int, out: np.ndarray) -> None:
        out[:] = self.chips[index].agb_mg_per_ha


def grow_chip(
    chip_id: str, mean: float, size: tuple[int, int] = SIZE, split: str = "train"
) -> Chip:
    """More biomass: more backscatter, less red and shortwave infrared."""
    generator = np.random.default_rng(np.random.SeedSequence([int(mean), len(chip_id)]))
    rows, columns = np.mgrid[: size[0], : size[1]] / size[1]
    agb = mean * (1 + np.sin(7 * rows + mean) * np.cos(5 * columns))
    agb = np.maximum(agb + generator.normal(0, mean / 10, size), 0)
    s1 = generator.normal(-14, 1, (12, 4, *size)) + agb / 60
    s1[3:5, 2:] = S1_NODATA_DB
    s2 = generator.normal(1200, 60, (12, 11, *size)) - 3 * agb.clip(max=300)
    s2[:, -1] = generator.integers(0, 20, (12, *size))
    present = np.ones((12, 2), bool)
    present[[2, 3], 1] = False
    s2[~present[:, 1]] = 0
    return Chip(
        chip_id,
        split,
        s1.astype(np.float32),
        s2.round().clip(0).astype(np.uint16),
        present,
        agb.astype(np.float32) if split == "train" else None,
    )


@pytest.fixture
def make_chip() -> Callable[..., Chip]:
    return grow_chip


@pytest.fixture
def in_memory() -> type[ChipsInMemory]:
    return ChipsInMemory


@pytest.fixture(scope="session")
def forest() -> ChipsInMemory:
    """Six labelled chips c0 … c5 of rising biomass."""
    return ChipsInMemory([grow_chip(f"c{i}", 20.0 + 25 * i) for i in range(6)])
