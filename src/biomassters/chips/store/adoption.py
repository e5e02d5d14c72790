"""What an older store has already packed: a new one takes it over instead of the archive."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from biomassters.chips.chip import Chip
from biomassters.chips.store.chip_files import has_files, moved_keys
from biomassters.chips.store.chip_packing import ChipSource
from biomassters.chips.store.journal import ChipJournal
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.manifest_file import read_manifest
from biomassters.chips.store.publishing import finished_place
from biomassters.chips.store.reader import ChipStore
from biomassters.errors import BadInputError
from biomassters.io.storage import Place

_logger = logging.getLogger(__name__)

Signatures = Mapping[str, Mapping[str, str]]


def adopt_packed(
    path: Place,
    journal: ChipJournal,
    source: ChipSource,
    signatures: Signatures,
    codec: str,
) -> ChipSource:
    """Take over the chips that a complete store holds from the same sources.

    Args:
        path: Place of the older store, if there is one.
        journal: Of the unfinished store; gets a line for each chip that is taken over.
        source: The chips.
        signatures: Per split and chip id the signature of the source, in order.
        codec: The new store's codec.

    Returns:
        Where to read the remaining chips from; with another codec, the older store comes first.
    """
    try:
        manifest = read_manifest(path)
    except BadInputError:
        return source
    old_place = finished_place(path)
    keys = old_place.keys()
    pairs = list(_same_chips(manifest.records, signatures, keys))
    if manifest.codec != codec:
        places = {old.chip_id: (old.split, old.index) for old, _, _ in pairs}
        return StoreFirst(source, ChipStore(path), places)
    adopted: list[ChipRecord] = []
    moved: dict[str, str | None] = {}
    for old, split, index in pairs:
        if journal.valid_record(split, index, old.signature) is None:
            moved |= moved_keys(keys, old, split, index)
            adopted.append(replace(old, split=split, index=index))
    if adopted:
        journal.growing.take(old_place, moved)
        journal.append(*adopted)
        _logger.info("%d chips taken over from the older store %s.", len(adopted), path)
    return source


@dataclass(frozen=True)
class StoreFirst:
    """Chips from a store where it has them, from their source otherwise.

    Attributes:
        source: All chips.
        store: The store.
        places: Split and index of its chips by name.
    """

    source: ChipSource
    store: ChipStore
    places: Mapping[str, tuple[str, int]]

    def splits(self) -> dict[str, list[str]]:
        """As the source."""
        return self.source.splits()

    def signature(self, chip_id: str) -> str:
        """As the source."""
        return self.source.signature(chip_id)

    def read_chip(self, chip_id: str) -> Chip:
        """Read one chip; packing it again gives the same integers."""
        if chip_id in self.places:
            split, index = self.places[chip_id]
            try:
                return self.store.split(split).read_chip(index)
            except BadInputError as error:
                _logger.warning("%s Chip %s is read from the archive.", error, chip_id)
        return self.source.read_chip(chip_id)


def _same_chips(
    records: tuple[ChipRecord, ...], signatures: Signatures, keys: Collection[str]
) -> Iterator[tuple[ChipRecord, str, int]]:
    """Packed chips that are wanted and unchanged, with their new split and index."""
    known = {(record.split, record.chip_id): record for record in records}
    for split, chips in signatures.items():
        for index, (chip_id, signature) in enumerate(chips.items()):
            old = known.get((split, chip_id))
            if old and old.signature == signature and has_files(keys, old):
                yield old, split, index
