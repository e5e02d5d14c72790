"""What verification works on: the listed files of one chip."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.layout import ArchiveFiles, file_state
from biomassters.chips.archive.metadata import read_listing
from biomassters.chips.archive.quarantine import quarantined_files
from biomassters.chips.quality.file_check import ListedFile, check_file
from biomassters.io.storage import fetch


class ChipListing(NamedTuple):
    """The files of one chip that the metadata list."""

    chip_id: str
    split: str
    files: tuple[ListedFile, ...]

    def signature(self) -> str:
        """A text that changes when a file, or what should be in it, changes."""
        facts = json.dumps(self.files)
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class CheckChip:
    """Checks the files of one chip; runs on a worker.

    Attributes:
        shape: Height and width in pixels that each must have.
    """

    shape: tuple[int, int]

    def __call__(self, chip: ChipListing) -> list[dict[str, Any]]:
        """One row a file, as ``check_file`` gives it."""
        fetched = fetch(file.path for file in chip.files)
        return [check_file(file, self.shape, fetched.get(file.path)) for file in chip.files]


def chip_listings(archive: Archive) -> list[ChipListing]:
    """Listed files by chip; one that is missing is looked for in quarantine.

    Raises:
        BadInputError: If the metadata are missing or wrong.
    """
    files = ArchiveFiles.find(archive.root)
    listing = read_listing(files)
    chips: dict[str, ChipListing] = {}
    columns = ("chip_id", "split", "filename", "sensor", "month", "path", "size", "cksum")
    values = (listing[name].astype(object).tolist() for name in columns)
    aside = quarantined_files(archive.root)
    for chip_id, split, filename, sensor, month, path, size, cksum in zip(*values, strict=True):
        path = path or aside.get(filename, "")
        size, cksum = (None if value is pd.NA else int(value) for value in (size, cksum))
        state = files.states.get(path) or file_state(path) if path else None
        file = ListedFile(filename, sensor, month, path, size, cksum, state)
        others = chips[chip_id].files if chip_id in chips else ()
        chips[chip_id] = ChipListing(chip_id, split, (*others, file))
    return list(chips.values())
