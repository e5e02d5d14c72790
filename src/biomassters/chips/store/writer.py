"""Chips packed into a Zarr v3 chip store, so that a kill costs only the chips in flight.

No lock and no journal: a packed chip is a pure function of its source (``chunks.py``), each file
appears whole or not at all (``store_files.py``), and a small record says that a chip is done and
what it was packed from. So whoever finds a matching record has nothing to do, and two runs write
the same bytes. The store grows in ``<store>.partial/<what it is to hold>/``, and comes to its place
when all chips are there, its manifest last.
"""

import hashlib
import json
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.chip import Chip
from biomassters.chips.store.chunks import packed_chip
from biomassters.chips.store.layout import (
    AGB_ARRAY,
    CODECS,
    FORMAT_VERSION,
    IMAGE_ARRAYS,
    MANIFEST_NAME,
    partial_place,
)
from biomassters.chips.store.manifest import (
    ChipRecord,
    Manifest,
    Slot,
    array_metadata,
    manifest_mark,
    metadata_files,
    read_manifest,
)
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.shards import read_metadata
from biomassters.chips.store.store_files import StoreFiles, files_at
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.files import full_disk_explained
from biomassters.io.storage import Place, place_of, side_by_side
from biomassters.workers.pool import Workers

# Below what was measured on the real chip 000aa810, 1.8 and 2.1, so that the check of the
# disk errs on the safe side.
_ASSUMED_RATIO = {"lz4": 1.6, "zstd": 1.9, "none": 1.0}
_IN_FLIGHT = 4
_ATTEMPTS = 3  # while other runs take the unfinished store away
_OURS = re.compile(r"([\w-]+/){0,2}(zarr\.json|manifest\.json|c[./].*)|\.records/.*")

_logger = logging.getLogger(__name__)


class ChipSource(Protocol):
    """Where the chips of a store come from."""

    def splits(self) -> dict[str, list[str]]:
        """Chip ids per split, in the order of packing."""

    def read_chip(self, chip_id: str) -> Chip:
        """Read one chip; called by one thread."""

    def signature(self, chip_id: str) -> str:
        """A text that changes when the chip's source changes."""


def write_store(
    path: Place, source: ChipSource, *, codec: str = "lz4", workers: Workers | None = None
) -> ChipStore:
    """Pack chips into a store, a folder or URL; the complete store, opened.

    An interrupted run is continued with the first chip that was not finished. A store that already
    holds the same chips is left alone; one that holds some of them gives its files to the new one,
    or, with another codec, its pixels. It can be read until the new one takes its place.

    Args:
        path: The store's folder, or its URL.
        source: The chips.
        codec: ``"lz4"``, ``"zstd"`` (smaller, slower) or ``"none"`` (fastest to read).
        workers: Who reads and packs; None takes this process.

    Raises:
        BadInputError: No chips, a chip id twice, chips of different sizes, an unknown codec, too
            little space on the disk, something else at the store's place, or another run that
            packs other chips there.
    """
    path = place_of(path)
    if codec not in CODECS:
        raise BadInputError(f"codec: there is no {codec!r}; choose one of {', '.join(CODECS)}.")
    slots = _slots(source)
    growing = files_at(growing_place(path, codec, slots))
    attempt = 0
    with full_disk_explained(
        f"The disk is full while packing {path}: free some space and run again, the chips packed "
        "so far are kept."
    ):
        while not _is_current(path, codec, slots):
            if attempt == _ATTEMPTS:
                raise BadInputError(
                    f"Another run is packing other chips, or by another codec, into {path}: wait "
                    "until it ends, then run again."
                )
            attempt += 1
            _attempt(path, growing, source, slots, codec, workers)
    if attempt == 0:
        _logger.info("%s already holds these chips: nothing to pack.", path)
    growing.finish(path)
    return ChipStore(path)


def _attempt(
    path: Place,
    growing: StoreFiles,
    source: ChipSource,
    slots: list[Slot],
    codec: str,
    workers: Workers | None,
) -> None:
    """Pack what is missing and publish the store.

    Files that vanish meanwhile are those of another run, which was faster: the next attempt finds
    its store, or begins again.
    """
    _require_own(path)
    if growing.clear_beside():
        _logger.info("%s: what another unfinished store had left is deleted.", path)
    try:
        done = _packed_before(growing, slots)
        missing = [slot for slot in slots if slot not in done]
        taken, read_chip = _take_over(path, growing, source, missing, codec)
    except FileNotFoundError:
        return
    done |= taken
    todo = [slot for slot in missing if slot not in taken]
    if done:
        _logger.info("%s: continued, %d chips left to pack.", path, len(todo))
    done |= _pack(growing, read_chip, todo, codec, done, workers)
    records = tuple(done[slot] for slot in slots)
    with suppress(FileNotFoundError):
        _publish(path, growing, Manifest(codec, records, getattr(source, "origin", {})))


def growing_place(path: Place, codec: str, slots: Sequence[Slot]) -> Place:
    """Where a store grows: another place for other chips, another order or another codec.

    So a run never finds another chip's file under the name of its own. Signatures don't count: of
    a chip that changed, the record says so.
    """
    names = json.dumps(
        [FORMAT_VERSION, codec, [[slot.split, slot.index, slot.chip_id] for slot in slots]]
    )
    name = hashlib.sha256(names.encode()).hexdigest()[:16]
    partial = partial_place(path)
    return partial / name if isinstance(partial, Path) else f"{partial}/{name}"


def packed_bytes(count: int, size: tuple[int, int], codec: str) -> int:
    """About how large a store of so many chips of [height, width] will be."""
    month_bytes = sum(len(array.bands) * array.dtype.itemsize for array in IMAGE_ARRAYS)
    pixel_bytes = MONTH_COUNT * month_bytes + AGB_ARRAY.dtype.itemsize
    return int(count * size[0] * size[1] * pixel_bytes / _ASSUMED_RATIO[codec])


def _slots(source: ChipSource) -> list[Slot]:
    slots = [
        Slot(split, index, chip_id, source.signature(chip_id))
        for split, chip_ids in source.splits().items()
        for index, chip_id in enumerate(chip_ids)
    ]
    seen: set[str] = set()
    for slot in slots:
        if slot.chip_id in seen:
            raise BadInputError(
                f"Chip {slot.chip_id} is listed twice: keep it once in the metadata."
            )
        seen.add(slot.chip_id)
    if not slots:
        raise BadInputError("There is no usable chip to pack: see the chip table for the reasons.")
    return slots


def _is_current(path: Place, codec: str, slots: list[Slot]) -> bool:
    """Whether a complete store holds the same chips from the same sources, by the same codec.

    Of its files the names are looked at, and the metadata as a whole; the pixels' own checksums
    are compared when they are read.
    """
    try:
        manifest = read_manifest(path)
        if manifest.codec != codec or [record.slot for record in manifest.records] != slots:
            return False
        metadata = array_metadata(manifest)
        if any(read_metadata(f"{path}/{name}") != metadata[name] for name in metadata):
            return False
    except BadInputError:
        return False
    keys = files_at(path).listing()
    return all(keys.issuperset(record.shard_keys()) for record in manifest.records)


def _require_own(path: Place) -> None:
    """Refuse a place that holds anything but a store, of which publishing would leave nothing."""
    if isinstance(path, str) and "/" not in path.partition("://")[2].strip("/"):
        raise BadInputError(
            f"chip_store: {path} is a whole bucket: give the store a name in it, as in "
            f"{path}/chips.zarr."
        )
    if manifest_mark(path) is None:
        strange = [key for key in files_at(path).listing() if not _OURS.fullmatch(key)]
        if strange:
            raise BadInputError(
                f"{path} holds something that is no chip store ({min(strange)}): choose another "
                f"{'URL' if isinstance(path, str) else 'folder'}, or delete what is there."
            )


def _packed_before(growing: StoreFiles, slots: list[Slot]) -> dict[Slot, ChipRecord]:
    """Records of the chips that an interrupted run has packed from the same sources."""
    keys = growing.listing()
    noted = [slot for slot in slots if slot.record_key in keys]
    records = map(
        ChipRecord.from_bytes, side_by_side(growing.read, [slot.record_key for slot in noted])
    )
    return {
        slot: record
        for slot, record in zip(noted, records, strict=True)
        if record and record.slot == slot and keys.issuperset(record.shard_keys())
    }


def _take_over(
    path: Place, growing: StoreFiles, source: ChipSource, missing: list[Slot], codec: str
) -> tuple[dict[Slot, ChipRecord], Callable[[str], Chip]]:
    """Chips that an older store holds by the same codec, and how to read the others.

    By another codec, the older store's pixels are read instead of the source.
    """
    try:
        manifest = read_manifest(path)
    except BadInputError:
        return {}, source.read_chip
    older = files_at(path)
    keys = older.listing()
    known = {(old.split, old.chip_id, old.signature): old for old in manifest.records}
    pairs = [(slot, known.get((slot.split, slot.chip_id, slot.signature))) for slot in missing]
    whole = {slot: old for slot, old in pairs if old and keys.issuperset(old.shard_keys())}
    if manifest.codec != codec:
        places = {old.chip_id: (old.split, old.index) for old in whole.values()}
        return {}, ReadPacked(ChipStore(path), places, source)
    taken = {slot: replace(old, index=slot.index) for slot, old in whole.items()}
    moved: dict[str, str] = {}
    for slot, record in taken.items():
        moved |= zip(record.shard_keys(), whole[slot].shard_keys(), strict=True)
    growing.take(older, moved)
    growing.write({slot.record_key: [taken[slot].to_bytes()] for slot in taken}, wait=False)
    if taken:
        _logger.info("%d chips taken over from the older store %s.", len(taken), path)
    return taken, source.read_chip


@dataclass(frozen=True)
class ReadPacked:
    """Reads chips from a store that has them (split and index by name), else from the source.

    Packing a chip from the store again gives the same integers.
    """

    store: ChipStore
    places: Mapping[str, tuple[str, int]]
    source: ChipSource

    def __call__(self, chip_id: str) -> Chip:
        """Reads one chip."""
        if chip_id in self.places:
            split, index = self.places[chip_id]
            try:
                return self.store.split(split).read_chip(index)
            except BadInputError as error:
                _logger.warning("%s Chip %s is read from the archive.", error, chip_id)
        return self.source.read_chip(chip_id)


@dataclass(frozen=True)
class PackChip:
    """Reads, encodes and writes one chip on a worker, which needs the same folders or URLs."""

    growing: StoreFiles
    read_chip: Callable[[str], Chip]
    codec: str
    size: tuple[int, int]  # height and width in pixels that each must have

    def __call__(self, slot: Slot) -> ChipRecord:
        """Packs a chip; when this returns, it is done."""
        return self.write(slot, self.read_chip(slot.chip_id))

    def write(self, slot: Slot, chip: Chip) -> ChipRecord:
        """Packs a chip that was read."""
        if chip.shape != self.size:
            raise BadInputError(
                f"Chip {chip.chip_id} has {chip.shape[0]} x {chip.shape[1]} pixels, but the chips "
                f"before have {self.size[0]} x {self.size[1]}: all chips of an archive must have "
                "one size."
            )
        record, files = packed_chip(chip, slot, self.codec)
        self.growing.write(files)
        # Not waited for: torn by a power cut, it only costs packing the chip again.
        self.growing.write({slot.record_key: [record.to_bytes()]}, wait=False)
        return record


def _pack(
    growing: StoreFiles,
    read_chip: Callable[[str], Chip],
    todo: list[Slot],
    codec: str,
    done: Mapping[Slot, ChipRecord],
    workers: Workers | None,
) -> dict[Slot, ChipRecord]:
    """Pack chips; the first one here, for it shows how much space the others need."""
    if not todo:
        return {}
    with Progress("packing chips", len(todo)) as bar:
        first, *rest = todo
        chip = read_chip(first.chip_id)
        size = next(((record.height, record.width) for record in done.values()), chip.shape)
        growing.require_space(
            packed_bytes(len(todo), size, codec), f"Packing {len(todo)} chips with codec {codec}"
        )
        pack = PackChip(growing, read_chip, codec, size)
        packed = {first: pack.write(first, chip)}
        bar.update()
        results = workers.each(pack, rest) if workers and rest else enumerate(_here(pack, rest))
        for _, record in results:
            packed[record.slot] = record
            bar.update()
    return packed


def _here(pack: PackChip, slots: list[Slot]) -> Iterator[ChipRecord]:
    """Read chips one after another, and encode and write them in a few threads.

    Encoding releases the GIL, and waiting for the disk costs no processor, so both hide behind the
    reading. When that fails, what was begun is finished, and counts.
    """
    waiting: deque[Future[ChipRecord]] = deque()
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="chip writer") as pool:
        for slot in slots:
            chip = pack.read_chip(slot.chip_id)
            if len(waiting) == _IN_FLIGHT:
                yield waiting.popleft().result()
            waiting.append(pool.submit(pack.write, slot, chip))
        for future in waiting:
            yield future.result()


def _publish(path: Place, growing: StoreFiles, manifest: Manifest) -> None:
    """Complete a store whose chips are all written; readers see it from then on."""
    files = metadata_files(manifest)
    growing.write(files)
    growing.write({MANIFEST_NAME: [manifest.to_json().encode()]})
    shards = (key for record in manifest.records for key in record.shard_keys())
    growing.publish(path, {*files, MANIFEST_NAME, *shards})
