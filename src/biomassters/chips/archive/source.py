"""The usable chips of an archive, as the chip store is packed from."""

from typing import Any

import pandas as pd

from biomassters.chips.archive.archive import Archive
from biomassters.chips.chip import Chip


class UsableChips:
    """Chips that the chip table calls usable, without their damaged images.

    Args:
        archive: The archive.
        table: Its chip table.
    """

    def __init__(self, archive: Archive, table: pd.DataFrame) -> None:
        usable = table[table["usable"]].sort_values("chip_id")
        self._archive = archive
        self._splits = {
            str(split): chips["chip_id"].tolist() for split, chips in usable.groupby("split")
        }
        self._damaged = {
            chip_id: frozenset(names)
            for chip_id, names in zip(usable["chip_id"], usable["damaged_files"], strict=True)
            if len(names)
        }

    @property
    def origin(self) -> dict[str, Any]:
        """Where the chips come from, as the archive says."""
        return self._archive.origin

    def splits(self) -> dict[str, list[str]]:
        """Sorted names of the chips by split; a split without chips is left out."""
        return {split: list(chip_ids) for split, chip_ids in self._splits.items()}

    def read_chip(self, chip_id: str) -> Chip:
        """Reads one chip.

        Raises:
            DamagedFileError: If a file was damaged after the inspection.
        """
        return self._archive.read_chip(chip_id, self._damaged.get(chip_id, ()))

    def signature(self, chip_id: str) -> str:
        """A text that changes when a file of the chip changes."""
        return self._archive.signature(chip_id, self._damaged.get(chip_id, ()))
