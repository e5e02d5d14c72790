"""What scoring, baselines and pictures need to know of a split of the chip store."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.chip import Chip
from biomassters.errors import BadInputError


class LabelledChips(Protocol):
    """Chips by index; a split of a chip store is one.

    Attributes:
        chip_ids: Name of each chip.
        height: Pixels.
        width: Pixels.
    """

    @property
    def chip_ids(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    def read_chip(self, index: int) -> Chip: ...  # noqa: D102
    def read_agb_into(self, index: int, out: NDArray[np.float32]) -> None: ...  # noqa: D102


def positions(chips: LabelledChips, chip_ids: Sequence[str]) -> list[int]:
    """Index of each named chip.

    Raises:
        BadInputError: No chip is named, or one that isn't there.
    """
    if not chip_ids:
        raise BadInputError("No chips are named to score; check training.folds.")
    index_of = {chip_id: index for index, chip_id in enumerate(chips.chip_ids)}
    unknown = [chip_id for chip_id in chip_ids if chip_id not in index_of]
    if unknown:
        raise BadInputError(
            f"Chip {unknown[0]} is not in the chip store ({len(unknown)} of {len(chip_ids)} chips "
            "asked for aren't); run data_engineering again, so that folds and store agree."
        )
    return [index_of[chip_id] for chip_id in chip_ids]


def read_label(chips: LabelledChips, index: int) -> NDArray[np.float32]:
    """A chip's AGB, float32 [H, W], Mg/ha."""
    agb_HW = np.empty((chips.height, chips.width), np.float32)
    chips.read_agb_into(index, agb_HW)
    return agb_HW
