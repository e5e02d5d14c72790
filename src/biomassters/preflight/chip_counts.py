"""How many chips a run is about, before it has looked at any."""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from biomassters.chips.archive.metadata import FEATURES_METADATA
from biomassters.errors import BadInputError
from biomassters.preflight.planned_run import PlannedRun


@dataclass(frozen=True)
class ChipCounts:
    """Chips by split, and their size in pixels."""

    train: int
    test: int
    height: int
    width: int

    @property
    def count(self) -> int:
        """Of both splits."""
        return self.train + self.test


def expected_chips(run: PlannedRun) -> ChipCounts | None:
    """The chips that are simulated, packed, or listed in the archive's metadata.

    None where nobody can say yet; the nodes look for themselves.
    """
    simulation = run.options("simulation")
    if simulation is not None:
        size = simulation.chip_size
        return ChipCounts(simulation.train_chips, simulation.test_chips, size, size)
    if run.takes("chip_store") and not run.makes("chip_store"):
        return _packed(run.path("chip_store"))
    if run.takes("raw_archive") and run.makes("chip_store"):
        return _listed(run.path("raw_archive"))
    return None


def _packed(store: Path | None) -> ChipCounts | None:
    from biomassters.chips.store.manifest import read_manifest

    if store is None:
        return None
    try:
        sources = read_manifest(store).sources()
    except BadInputError:
        return None
    from biomassters.chips.store.reader import ChipStore

    found = ChipStore(store)
    counts = {split: len(chips) for split, chips in sources.items()}
    first = found.split(next(iter(sources)))
    return ChipCounts(counts.get("train", 0), counts.get("test", 0), first.height, first.width)


def _listed(archive: Path | None) -> ChipCounts | None:
    """From the metadata alone: looking for 250,000 files takes long on a slow disk."""
    from biomassters.io.raster import read_size

    if archive is None or not archive.is_dir():
        return None
    tables = sorted(archive.glob(f"*{FEATURES_METADATA}*.csv"))
    image = _an_image(archive)
    if not tables or image is None:
        return None
    try:
        table = pd.read_csv(tables[0], usecols=["chip_id", "split"], dtype=str)
        height, width = read_size(image)
    except (ValueError, OSError):
        return None
    chips = table.drop_duplicates("chip_id")["split"].value_counts()
    return ChipCounts(int(chips.get("train", 0)), int(chips.get("test", 0)), height, width)


def _an_image(folder: Path) -> str | None:
    """The first TIFF that is met."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith((".tif", ".tiff")):
                return f"{place}/{name}"
    return None
