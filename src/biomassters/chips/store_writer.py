"""Chips packed into a Zarr v3 chip store, one at a time, so that a kill costs one chip."""

import errno
import logging
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.chip import Chip
from biomassters.chips.durable_files import (
    publish_folder,
    require_space,
    sync_folder,
    write_durably,
)
from biomassters.chips.store_chip_files import make_array_folders, write_chip
from biomassters.chips.store_journal import Journal, plan_of, remove_journal
from biomassters.chips.store_layout import (
    AGB_ARRAY,
    CODECS,
    MANIFEST_NAME,
    S1_ARRAY,
    S2_ARRAY,
    partial_path,
)
from biomassters.chips.store_manifest import ChipRecord, Manifest, source_table
from biomassters.chips.store_metadata import write_metadata
from biomassters.chips.store_reader import ChipStore
from biomassters.errors import BadInputError

# Lower than the ratios measured on real chips, so that the check of the disk errs safely.
_ASSUMED_RATIO = {"lz4": 2.0, "zstd": 2.0, "none": 1.0}

_logger = logging.getLogger(__name__)


class ChipSource(Protocol):
    """Where the chips of a store come from."""

    def splits(self) -> dict[str, list[str]]:
        """Chip ids per split, in the order of packing."""
        ...

    def read_chip(self, chip_id: str) -> Chip:
        """Read one chip."""
        ...

    def signature(self, chip_id: str) -> str:
        """A text that changes when the chip's source changes."""
        ...


def write_store(
    path: Path | str, source: ChipSource, *, codec: str = "lz4", progress: bool = True
) -> ChipStore:
    """Pack chips into a store.

    The store grows in ``<path>.partial`` and takes its name when it is complete; until then
    an older store stays as it is. An interrupted run is continued with the first chip that
    was not finished. A store that already holds the same chips is left alone.

    Args:
        path: The store's folder.
        source: The chips.
        codec: ``"lz4"``, ``"zstd"`` (smaller, slower) or ``"none"`` (fastest to read).
        progress: Whether to show a bar.

    Returns:
        The complete store, opened.

    Raises:
        BadInputError: No chips, a chip id twice, chips of different sizes, an unknown codec,
            too little space on the disk, or another run writing the same store.
    """
    path = Path(path).absolute()
    _check_codec(codec)
    splits = _checked_splits(source)
    signatures = source_table(
        (split, chip_id, source.signature(chip_id))
        for split, chip_ids in splits.items()
        for chip_id in chip_ids
    )
    if _is_current(path, codec, signatures):
        _logger.info("%s already holds these chips: nothing to pack.", path)
        return ChipStore(path)
    folder = partial_path(path)
    try:
        with Journal(folder, plan_of(codec, splits)) as journal:
            _pack_missing(folder, journal, source, signatures, codec, progress)
            places = [(split, i) for split in splits for i in range(len(splits[split]))]
            records = tuple(journal.records[place] for place in places)
            _finish(folder, path, Manifest(codec, records))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInputError(
                f"The disk is full while packing {folder}: free some space and run again, "
                "the chips packed so far are kept."
            ) from error
        raise
    return ChipStore(path)


def _check_codec(codec: str) -> None:
    if codec not in CODECS:
        raise BadInputError(f"codec: there is no {codec!r}; choose one of {', '.join(CODECS)}.")


def _checked_splits(source: ChipSource) -> dict[str, list[str]]:
    splits = {name: list(chip_ids) for name, chip_ids in source.splits().items() if chip_ids}
    seen: set[str] = set()
    for chip_id in (chip_id for chip_ids in splits.values() for chip_id in chip_ids):
        if chip_id in seen:
            raise BadInputError(f"Chip {chip_id} is listed twice: keep it once in the metadata.")
        seen.add(chip_id)
    if not seen:
        raise BadInputError("There is no usable chip to pack: see the chip table for the reasons.")
    return splits


def _is_current(path: Path, codec: str, signatures: dict[str, dict[str, str]]) -> bool:
    """Whether a complete store holds the same chips from the same sources, by the same codec."""
    try:
        text = (path / MANIFEST_NAME).read_bytes()
        manifest = Manifest.from_json(text, str(path))
    except (OSError, BadInputError):
        return False
    same = [(split, list(chips.items())) for split, chips in manifest.sources().items()]
    return manifest.codec == codec and same == [
        (split, list(chips.items())) for split, chips in signatures.items()
    ]


def _pack_missing(
    folder: Path,
    journal: Journal,
    source: ChipSource,
    signatures: dict[str, dict[str, str]],
    codec: str,
    progress: bool,
) -> None:
    """Pack the chips that the journal doesn't know, or knows from another source."""
    todo = []
    for split, table in signatures.items():
        make_array_folders(folder / split)
        for index, (chip_id, signature) in enumerate(table.items()):
            if not journal.has(split, index, signature):
                todo.append((split, index, chip_id, signature))
    if journal.records:
        _logger.info("%s: continued, %d chips left to pack.", folder, len(todo))
    for number, task in enumerate(tqdm(todo, "Packing chips", unit="chip", disable=not progress)):
        split, index, chip_id, signature = task
        chip = source.read_chip(chip_id)
        _check_size(chip, journal)
        if number == 0:
            _check_space(folder, chip, len(todo), codec)
        crc = write_chip(folder / split, index, chip, codec)
        journal.append(ChipRecord.of(chip, split, index, signature, crc))


def _check_size(chip: Chip, journal: Journal) -> None:
    first = next(iter(journal.records.values()), None)
    if first is not None and chip.shape != (first.height, first.width):
        raise BadInputError(
            f"Chip {chip.chip_id} has {chip.shape[0]} x {chip.shape[1]} pixels, but chip "
            f"{first.chip_id} has {first.height} x {first.width}: all chips of an archive must "
            "have one size."
        )


def _check_space(folder: Path, chip: Chip, count: int, codec: str) -> None:
    pixels = chip.shape[0] * chip.shape[1]
    values = MONTH_COUNT * (len(S1_ARRAY.bands) + len(S2_ARRAY.bands))
    chip_bytes = pixels * (values * S1_ARRAY.dtype.itemsize + AGB_ARRAY.dtype.itemsize)
    needed = int(count * chip_bytes / _ASSUMED_RATIO[codec])
    require_space(folder, needed, f"Packing {count} chips with codec {codec}")


def _finish(folder: Path, path: Path, manifest: Manifest) -> None:
    """Complete the store: Zarr's metadata, then the manifest, then its name."""
    write_metadata(folder, manifest)
    for inner in (folder / MANIFEST_NAME).parent.rglob("*"):
        if inner.is_dir():
            sync_folder(inner)
    write_durably(folder / MANIFEST_NAME, [manifest.to_json().encode()])
    sync_folder(folder)
    publish_folder(folder, path)
    remove_journal(path)
