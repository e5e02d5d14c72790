"""The run that is about to begin, as the checks look at it.

Its nodes, their options, where their datasets lie, and how many chips it is about.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, CatalogProtocol
from kedro.pipeline import Pipeline

from biomassters.chips.archive.metadata import FEATURES_METADATA
from biomassters.errors import BadInputError
from biomassters.io.storage import is_url

_PARAMETERS = ("params:", "parameters")


@dataclass(frozen=True)
class ChipCounts:
    """Chips by split, and their size in pixels."""

    train: int
    test: int
    height: int
    width: int


@dataclass(frozen=True)
class PlannedRun:
    """The nodes to run and where their datasets lie.

    Attributes:
        pipeline: The nodes.
        catalog: Their datasets.
        skips_finished: Whether nodes whose outputs exist are left out.
        runner: What Kedro calls the runner.
    """

    pipeline: Pipeline
    catalog: CatalogProtocol
    skips_finished: bool = False
    runner: str = ""

    def options(self, name: str) -> Any | None:
        """The options of a parameter that a node takes, None where none does."""
        if f"params:{name}" not in self.pipeline.inputs():
            return None
        dataset = self.dataset(f"params:{name}")
        return None if dataset is None else dataset.load()

    def makes(self, name: str) -> bool:
        """Whether a node makes this dataset."""
        return name in self.pipeline.all_outputs()

    def takes(self, name: str) -> bool:
        """Whether a node takes this dataset, made by another one or not."""
        return name in self.pipeline.all_inputs()

    def brought(self) -> list[str]:
        """Datasets that must be there already, by name."""
        return sorted(name for name in self.pipeline.inputs() if not name.startswith(_PARAMETERS))

    def dataset(self, name: str) -> AbstractDataset[Any, Any] | None:
        """A dataset of the catalog."""
        return self.catalog.get(name)

    def path(self, name: str) -> Path | None:
        """Where a dataset lies on this machine; None in memory and on object storage."""
        dataset = self.dataset(name)
        path = getattr(dataset, "_filepath", None)
        if path is None or is_url(path) or getattr(dataset, "_protocol", "file") != "file":
            return None
        return Path(str(path)).absolute()

    def chips(self) -> ChipCounts | None:
        """The chips that are simulated, packed, or listed in the archive's metadata.

        None where nobody can say yet; the nodes look for themselves.
        """
        simulation = self.options("simulation")
        if simulation is not None:
            size = simulation.chip_size
            return ChipCounts(simulation.train_chips, simulation.test_chips, size, size)
        store, archive = self.path("chip_store"), self.path("raw_archive")
        if self.takes("chip_store") and not self.makes("chip_store"):
            return None if store is None else _packed(store)
        if self.takes("raw_archive") and self.makes("chip_store"):
            return None if archive is None else _listed(archive)
        return None


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above that is there."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _packed(store: Path) -> ChipCounts | None:
    from biomassters.chips.store.reader import ChipStore  # few runs begin with a chip store

    try:
        packed = ChipStore(store)
    except BadInputError:
        return None
    splits = {name: packed.split(name) for name in packed.splits}
    train, test = (len(splits.get(name, ())) for name in ("train", "test"))
    first = next(iter(splits.values()))
    return ChipCounts(train, test, first.height, first.width)


def _listed(archive: Path) -> ChipCounts | None:
    """From the metadata alone: looking for 250,000 files takes long on a slow disk."""
    from biomassters.io.raster import read_size  # rasterio, which takes a while

    tables = sorted(archive.glob(f"*{FEATURES_METADATA}*.csv"))
    images = (
        f"{folder}/{name}"
        for folder, _, names in os.walk(archive)
        for name in names
        if name.endswith((".tif", ".tiff"))
    )
    image = next(images, None)
    if not tables or image is None:
        return None
    try:
        table = pd.read_csv(tables[0], usecols=["chip_id", "split"], dtype=str)
        height, width = read_size(image)
    except (ValueError, OSError):
        return None
    chips = table.drop_duplicates("chip_id")["split"].value_counts()
    return ChipCounts(int(chips.get("train", 0)), int(chips.get("test", 0)), height, width)
