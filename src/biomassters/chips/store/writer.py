"""Chips packed into a Zarr v3 chip store, so that a kill costs only the chips in flight.

No lock and no journal: a packed chip is a pure function of its source (``shards.py``), each file
appears whole or not at all (``store_files.py``), and a small record says that a chip is done and
what it was packed from. So whoever finds a matching record has nothing to do, and two runs write
the same bytes. The store grows in ``<store>.partial/<what it is to hold>/``, and comes to its place
when all chips are there, its manifest last.
"""

import hashlib
import json
import logging
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Protocol

from biomassters.chips.chip import Chip
from biomassters.chips.store.layout import (
    ARRAYS,
    CODECS,
    FORMAT_VERSION,
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
from biomassters.chips.store.shards import packed_chip, read_metadata
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
    plan = _plan(path, source, codec)
    attempt = 0
    with full_disk_explained(
        f"The disk is full while packing {path}: free some space and run again, the chips packed "
        "so far are kept."
    ):
        while not _is_current(plan):
            if attempt == _ATTEMPTS:
                raise BadInputError(
                    f"Another run is packing other chips, or by another codec, into {path}: wait "
                    "until it ends, then run again."
                )
            attempt += 1
            _attempt(plan, source, workers)
    if attempt == 0:
        _logger.info("%s already holds these chips: nothing to pack.", path)
    plan.growing.finish(path)
    return ChipStore(path)


@dataclass(frozen=True)
class _Plan:
    """A store that is to be."""

    path: Place
    codec: str
    slots: list[Slot]
    growing: StoreFiles


def _plan(path: Place, source: ChipSource, codec: str) -> _Plan:
    slots = [
        Slot(split, index, chip_id, source.signature(chip_id))
        for split, chip_ids in source.splits().items()
        for index, chip_id in enumerate(chip_ids)
    ]
    if not slots:
        raise BadInputError("There is no usable chip to pack: see the chip table for the reasons.")
    (name, count), *_ = Counter(slot.chip_id for slot in slots).most_common(1)
    if count > 1:
        raise BadInputError(f"Chip {name} is listed twice: keep it once in the metadata.")
    # It grows in another place for other chips, another order or another codec, so that a run never
    # finds another chip's file under the name of its own. Signatures don't count: of a chip that
    # changed, the record says so.
    chips = [[slot.split, slot.index, slot.chip_id] for slot in slots]
    key = hashlib.sha256(json.dumps([FORMAT_VERSION, codec, chips]).encode()).hexdigest()[:16]
    return _Plan(path, codec, slots, files_at(place_of(f"{partial_place(path)}/{key}")))


def _attempt(plan: _Plan, source: ChipSource, workers: Workers | None) -> None:
    """Pack what is missing and publish the store.

    Files that vanish meanwhile are those of another run, which was faster: the next attempt finds
    its store, or begins again.
    """
    _require_own(plan.path)
    if plan.growing.clear_beside():
        _logger.info("%s: what another unfinished store had left is deleted.", plan.path)
    try:
        done = _packed_before(plan)
        read_chip = _take_over(plan, source, done)
    except FileNotFoundError:
        return
    todo = [slot for slot in plan.slots if slot not in done]
    if done:
        _logger.info("%s: continued, %d chips left to pack.", plan.path, len(todo))
    if todo:
        _pack(plan, read_chip, todo, done, workers)
    records = tuple(done[slot] for slot in plan.slots)
    with suppress(FileNotFoundError):
        _publish(plan, Manifest(plan.codec, records, getattr(source, "origin", {})))


def packed_bytes(count: int, size: tuple[int, int], codec: str) -> int:
    """About how large a store of so many chips of [height, width] will be."""
    chip_bytes = sum(
        array.chunk_count * math.prod(array.chunk_shape(*size)) * array.dtype.itemsize
        for array in ARRAYS
    )
    return int(count * chip_bytes / _ASSUMED_RATIO[codec])


def _is_current(plan: _Plan) -> bool:
    """Whether a complete store holds the same chips from the same sources, by the same codec.

    Of its files the names are looked at, and the metadata as a whole; the pixels' own checksums
    are compared when they are read.
    """
    try:
        manifest = read_manifest(plan.path)
        if manifest.codec != plan.codec or [r.slot for r in manifest.records] != plan.slots:
            return False
        expected = array_metadata(manifest)
        if any(read_metadata(f"{plan.path}/{name}") != expected[name] for name in expected):
            return False
    except BadInputError:
        return False
    keys = files_at(plan.path).listing()
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


def _packed_before(plan: _Plan) -> dict[Slot, ChipRecord]:
    """Records of the chips that an interrupted run has packed from the same sources."""
    keys = plan.growing.listing()
    noted = [slot for slot in plan.slots if slot.record_key in keys]
    contents = side_by_side(plan.growing.read, [slot.record_key for slot in noted])
    return {
        slot: record
        for slot, record in zip(noted, map(ChipRecord.from_bytes, contents), strict=True)
        if record and record.slot == slot and keys.issuperset(record.shard_keys())
    }


def _take_over(
    plan: _Plan, source: ChipSource, done: dict[Slot, ChipRecord]
) -> Callable[[str], Chip]:
    """Add to ``done`` what an older store holds by the same codec; how to read the other chips.

    By another codec, the older store's pixels are read instead of the source.
    """
    try:
        manifest = read_manifest(plan.path)
    except BadInputError:
        return source.read_chip
    older = files_at(plan.path)
    keys = older.listing()
    known = {(old.split, old.chip_id, old.signature): old for old in manifest.records}
    missing = [slot for slot in plan.slots if slot not in done]
    pairs = [(slot, known.get((slot.split, slot.chip_id, slot.signature))) for slot in missing]
    whole = {slot: old for slot, old in pairs if old and keys.issuperset(old.shard_keys())}
    if manifest.codec != plan.codec:
        places = {old.chip_id: (old.split, old.index) for old in whole.values()}
        return partial(_read_packed, ChipStore(plan.path), places, source)
    taken = {slot: replace(old, index=slot.index) for slot, old in whole.items()}
    moved: dict[str, str] = {}
    for slot, record in taken.items():
        moved |= zip(record.shard_keys(), whole[slot].shard_keys(), strict=True)
    plan.growing.take(older, moved)
    plan.growing.write({slot.record_key: [taken[slot].to_bytes()] for slot in taken}, wait=False)
    if taken:
        _logger.info("%d chips taken over from the older store %s.", len(taken), plan.path)
    done |= taken
    return source.read_chip


def _read_packed(
    store: ChipStore, places: Mapping[str, tuple[str, int]], source: ChipSource, chip_id: str
) -> Chip:
    """A chip from a store that has it (split and index by name), else from the source.

    Packed again, one from the store gives the same integers.
    """
    if chip_id in places:
        split, index = places[chip_id]
        try:
            return store.split(split).read_chip(index)
        except BadInputError as error:
            _logger.warning("%s Chip %s is read from the archive.", error, chip_id)
    return source.read_chip(chip_id)


def _pack(
    plan: _Plan,
    read_chip: Callable[[str], Chip],
    todo: list[Slot],
    done: dict[Slot, ChipRecord],
    workers: Workers | None,
) -> None:
    """Pack chips, each ``done`` then; the first one here, for it shows how much space all need."""
    with Progress("packing chips", len(todo)) as bar:
        first, *rest = todo
        chip = read_chip(first.chip_id)
        size = next(((record.height, record.width) for record in done.values()), chip.shape)
        plan.growing.require_space(
            packed_bytes(len(todo), size, plan.codec),
            f"Packing {len(todo)} chips with codec {plan.codec}",
        )
        write = partial(_write, plan.growing, plan.codec, size)
        others = _here(read_chip, write, rest)
        if workers and rest:
            results = workers.each(partial(_read_and_write, read_chip, write), rest)
            others = (record for _, record in results)
        for record in chain([write(first, chip)], others):
            done[record.slot] = record
            bar.update()


def _write(
    growing: StoreFiles, codec: str, size: tuple[int, int], slot: Slot, chip: Chip
) -> ChipRecord:
    """Encode and write a chip that must have that size, [height, width]; then it is done."""
    if chip.shape != size:
        raise BadInputError(
            f"Chip {chip.chip_id} has {chip.shape[0]} x {chip.shape[1]} pixels, but the chips "
            f"before have {size[0]} x {size[1]}: all chips of an archive must have one size."
        )
    record, files = packed_chip(chip, slot, codec)
    growing.write(files)
    # Not waited for: torn by a power cut, it only costs packing the chip again.
    growing.write({slot.record_key: [record.to_bytes()]}, wait=False)
    return record


def _read_and_write(
    read_chip: Callable[[str], Chip], write: Callable[[Slot, Chip], ChipRecord], slot: Slot
) -> ChipRecord:
    """Read and write one chip on a worker, which needs the same folders or URLs."""
    return write(slot, read_chip(slot.chip_id))


def _here(
    read_chip: Callable[[str], Chip], write: Callable[[Slot, Chip], ChipRecord], slots: list[Slot]
) -> Iterator[ChipRecord]:
    """Read chips one after another, and encode and write them in a few threads.

    Encoding releases the GIL, and waiting for the disk costs no processor, so both hide behind the
    reading. When that fails, what was begun is finished, and counts.
    """
    waiting: deque[Future[ChipRecord]] = deque()
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="chip writer") as pool:
        for slot in slots:
            chip = read_chip(slot.chip_id)
            if len(waiting) == _IN_FLIGHT:
                yield waiting.popleft().result()
            waiting.append(pool.submit(write, slot, chip))
        for future in waiting:
            yield future.result()


def _publish(plan: _Plan, manifest: Manifest) -> None:
    """Complete a store whose chips are all written; readers see it from then on."""
    files = metadata_files(manifest) | {MANIFEST_NAME: [manifest.to_json().encode()]}
    plan.growing.write(files)
    shards = (key for record in manifest.records for key in record.shard_keys())
    plan.growing.publish(plan.path, {*files, *shards})
