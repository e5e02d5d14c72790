"""The work of packing one chip: where it comes from, where it goes, and a task for workers."""

from dataclasses import dataclass
from typing import Protocol

from biomassters.chips.chip import Chip
from biomassters.chips.store.chip_files import write_chip
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.place import StorePlace
from biomassters.errors import BadInputError


class ChipSource(Protocol):
    """Where the chips of a store come from."""

    def splits(self) -> dict[str, list[str]]:
        """Chip ids per split, in the order of packing."""
        ...

    def read_chip(self, chip_id: str) -> Chip:
        """Read one chip; called by one thread."""
        ...

    def signature(self, chip_id: str) -> str:
        """A text that changes when the chip's source changes."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a chip goes, and what it is packed from."""

    split: str
    index: int
    chip_id: str
    signature: str


def pack_chip(store: StorePlace, place: Place, chip: Chip, codec: str) -> ChipRecord:
    """Encode and write a chip; when this returns, its data is safe.

    Args:
        store: Where the unfinished store lies.
        place: Where it goes.
        chip: The chip.
        codec: The store's codec.

    Returns:
        What the journal notes of it.
    """
    crc, chunk_crcs = write_chip(store, place.split, place.index, chip, codec)
    return ChipRecord.of(chip, place.split, place.index, place.signature, crc, chunk_crcs)


@dataclass(frozen=True)
class PackChip:
    """Reads, encodes and writes one chip; runs on a worker, which needs the same folders or URLs.

    Attributes:
        store: Where the unfinished store lies.
        source: The chips.
        codec: The store's codec.
        size: Height and width in pixels that each must have.
    """

    store: StorePlace
    source: ChipSource
    codec: str
    size: tuple[int, int]

    def __call__(self, place: Place) -> ChipRecord:
        """Packs a chip; when this returns, its data is safe."""
        chip = self.source.read_chip(place.chip_id)
        check_size(chip, self.size)
        return pack_chip(self.store, place, chip, self.codec)


def check_size(chip: Chip, size: tuple[int, int]) -> None:
    """Refuse a chip of another size.

    Raises:
        BadInputError: It has another size.
    """
    if chip.shape != size:
        raise BadInputError(
            f"Chip {chip.chip_id} has {chip.shape[0]} x {chip.shape[1]} pixels, but the chips "
            f"before have {size[0]} x {size[1]}: all chips of an archive must have one size."
        )
