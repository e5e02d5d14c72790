"""Chips packed into a Zarr v3 chip store, chip by chip, so that a kill costs only a few."""

import errno
import logging

from biomassters.chips.store.adoption import adopt_packed
from biomassters.chips.store.arrays import read_metadata
from biomassters.chips.store.chip_files import has_files
from biomassters.chips.store.chip_packing import ChipSource
from biomassters.chips.store.journal import plan_of
from biomassters.chips.store.layout import CODECS
from biomassters.chips.store.manifest import Manifest, source_table
from biomassters.chips.store.manifest_file import read_manifest
from biomassters.chips.store.metadata import array_metadata
from biomassters.chips.store.packing import pack_missing
from biomassters.chips.store.publishing import finished_place, open_journal, publish
from biomassters.chips.store.reader import ChipStore
from biomassters.errors import BadInputError
from biomassters.io.storage import Place, place_of
from biomassters.workers.pool import Workers

__all__ = ["ChipSource", "write_store"]

_logger = logging.getLogger(__name__)


def write_store(
    path: Place,
    source: ChipSource,
    *,
    codec: str = "lz4",
    progress: bool = True,
    workers: Workers | None = None,
) -> ChipStore:
    """Pack chips into a store.

    In a folder the store grows in ``<path>.partial`` and takes its name when it is complete;
    until then an older store stays as it is. At a URL it grows in its place, or beside an older
    one, and the manifest is written last. An interrupted run is continued with the first chip
    that was not finished. A store that already holds the same chips is left alone; one that
    holds some of them gives its files to the new one, or, with another codec, its pixels.

    Args:
        path: The store's folder, or its URL.
        source: The chips.
        codec: ``"lz4"``, ``"zstd"`` (smaller, slower) or ``"none"`` (fastest to read).
        progress: Whether to show a bar.
        workers: Who reads and packs; None takes this process.

    Returns:
        The complete store, opened.

    Raises:
        BadInputError: No chips, a chip id twice, chips of different sizes, an unknown codec,
            too little space on the disk, or another run writing the same store.
    """
    path = place_of(path)
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
    origin = getattr(source, "origin", {})
    try:
        with open_journal(path, plan_of(codec, splits)) as journal:
            source = adopt_packed(path, journal, source, signatures, codec)
            pack_missing(journal, source, signatures, codec, progress, workers)
            places = [(split, i) for split in splits for i in range(len(splits[split]))]
            records = tuple(journal.records[place] for place in places)
            publish(path, journal, Manifest(codec, records, origin))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInputError(
                f"The disk is full while packing {path}: free some space and run again, "
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


def _is_current(path: Place, codec: str, signatures: dict[str, dict[str, str]]) -> bool:
    """Whether a complete store holds the same chips from the same sources, by the same codec.

    Of its files the names are looked at, and the metadata as a whole; the pixels' own checksums
    are compared when they are read.
    """
    try:
        manifest = read_manifest(path)
        metadata = array_metadata(manifest)
        if any(read_metadata(f"{path}/{name}") != metadata[name] for name in metadata):
            return False
    except BadInputError:
        return False
    keys = finished_place(path).keys()
    if not all(has_files(keys, record) for record in manifest.records):
        return False
    same = [(split, list(chips.items())) for split, chips in manifest.sources().items()]
    return manifest.codec == codec and same == [
        (split, list(chips.items())) for split, chips in signatures.items()
    ]
