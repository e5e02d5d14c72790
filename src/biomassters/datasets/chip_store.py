"""The chip store as a Kedro dataset."""

from dataclasses import dataclass
from typing import Any

from biomassters.chips.store.manifest import manifest_mark
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import ChipSource, write_store
from biomassters.datasets.paths import LocalDataset
from biomassters.io.storage import place_of
from biomassters.workers.pool import Workers


@dataclass(frozen=True)
class Packing:
    """What goes into a store, and how."""

    source: ChipSource  # chips to pack, read one at a time
    codec: str  # ``"lz4"``, ``"zstd"`` or ``"none"``
    workers: Workers | None = None  # who reads and packs; None takes this process


class ChipStoreDataset(LocalDataset[Packing, ChipStore]):
    """Packed chips as Zarr v3, one group per split.

    Loading gives a lazy, picklable handle. Saving packs chip by chip, resumes after an
    interruption, and leaves a store alone that already holds the same chips.

    Args:
        filepath: The store's folder, or its URL.
        metadata: For other tools, ignored here.

    Example:
        >>> ChipStoreDataset(filepath="data/05_model_input/simulated.zarr").load()  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._filepath = place_of(filepath)

    def load(self) -> ChipStore:
        """Open the store; raises BadInputError when it is missing or unfinished."""
        return ChipStore(self._filepath)

    def save(self, data: Packing) -> None:
        """Pack the chips."""
        write_store(self._filepath, data.source, codec=data.codec, workers=data.workers)

    def _exists(self) -> bool:
        return manifest_mark(self._filepath) is not None
