"""The work of packing: chips read one after another, encoded and written by a few threads.

Encoding leaves Python's lock alone, and waiting for the disk costs no processor, so both
hide behind the reading.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.chip import Chip
from biomassters.chips.store.chip_files import has_files
from biomassters.chips.store.chip_packing import (
    ChipSource,
    PackChip,
    Place,
    check_size,
    pack_chip,
)
from biomassters.chips.store.journal import ChipJournal
from biomassters.chips.store.layout import AGB_ARRAY, S1_ARRAY, S2_ARRAY
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.place import StorePlace
from biomassters.console import Progress
from biomassters.workers.pool import Workers

# Below what was measured on the real chip 000aa810, 1.8 and 2.1, so that the check of the
# disk errs on the safe side.
_ASSUMED_RATIO = {"lz4": 1.6, "zstd": 1.9, "none": 1.0}
_IN_FLIGHT = 4
_NOTE_EVERY_S = 1.0

_logger = logging.getLogger(__name__)


def pack_missing(
    journal: ChipJournal,
    source: ChipSource,
    signatures: Mapping[str, Mapping[str, str]],
    codec: str,
    progress: bool,
    workers: Workers | None = None,
) -> None:
    """Pack the chips that the journal doesn't know, or knows from another source.

    Args:
        journal: Of the unfinished store; gets a line for each chip.
        source: The chips.
        signatures: Per split and chip id the signature of the source, in order.
        codec: The store's codec.
        progress: Whether to show a bar.
        workers: Who reads and packs; None takes this process.

    Raises:
        BadInputError: Chips of different sizes, or too little space on the disk.
    """
    store = journal.growing
    todo = _missing(journal, signatures)
    if journal.records:
        _logger.info("%s: continued, %d chips left to pack.", store, len(todo))
    if not todo:
        return
    first = next(iter(journal.records.values()), None)
    size = (first.height, first.width) if first else None
    with Progress("packing chips", len(todo), shown=progress) as bar:
        if workers is None:
            _pack_here(journal, source, todo, codec, size, bar)
            return
        size = size or source.read_chip(todo[0].chip_id).shape
        _check_space(store, size, len(todo), codec)
        task = PackChip(store, source, codec, size)
        _pack_elsewhere(journal, workers.each(task, todo), bar)


def _pack_elsewhere(
    journal: ChipJournal, results: Iterator[tuple[int, ChipRecord]], bar: Progress
) -> None:
    """Give packed chips their lines, those of a second together: each line waits for the disk."""
    packed: list[ChipRecord] = []
    noted = time.monotonic()
    try:
        for _, record in results:
            packed.append(record)
            bar.update()
            if time.monotonic() - noted > _NOTE_EVERY_S:
                journal.append(*packed)
                packed.clear()
                noted = time.monotonic()
    finally:
        if packed:
            journal.append(*packed)


def _pack_here(
    journal: ChipJournal,
    source: ChipSource,
    todo: Sequence[Place],
    codec: str,
    size: tuple[int, int] | None,
    bar: Progress,
) -> None:
    with _Writers(journal, codec) as writers:
        for place in todo:
            chip = source.read_chip(place.chip_id)
            size = size or chip.shape
            check_size(chip, size)
            if place is todo[0]:
                _check_space(journal.growing, size, len(todo), codec)
            writers.submit(place, chip)
            bar.update()


def _missing(journal: ChipJournal, signatures: Mapping[str, Mapping[str, str]]) -> list[Place]:
    todo = []
    keys = journal.growing.keys() if journal.records else set()
    for split, chips in signatures.items():
        for index, (chip_id, signature) in enumerate(chips.items()):
            record = journal.valid_record(split, index, signature)
            if record is None or not has_files(keys, record):
                todo.append(Place(split, index, chip_id, signature))
    return todo


class _Writers:
    """A few chips being encoded and written; the journal is kept in their order."""

    def __init__(self, journal: ChipJournal, codec: str) -> None:
        self._journal, self._codec = journal, codec
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="chip writer")
        self._waiting: deque[Future[ChipRecord]] = deque()

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *error: object) -> None:
        # Also when the source has failed: what was begun is finished, and counts.
        try:
            while self._waiting:
                self._note()
        finally:
            self._pool.shutdown()

    def submit(self, place: Place, chip: Chip) -> None:
        if len(self._waiting) == _IN_FLIGHT:
            self._note()
        self._waiting.append(self._pool.submit(self._write, place, chip))

    def _write(self, place: Place, chip: Chip) -> ChipRecord:
        return pack_chip(self._journal.growing, place, chip, self._codec)

    def _note(self) -> None:
        """Wait for the first, and give it and all that are done as well their lines."""
        records = [self._waiting.popleft().result()]
        while self._waiting and self._waiting[0].done():
            records.append(self._waiting.popleft().result())
        self._journal.append(*records)


def packed_bytes(count: int, size: tuple[int, int], codec: str) -> int:
    """About how large a store of so many chips of [height, width] will be."""
    values = MONTH_COUNT * (len(S1_ARRAY.bands) + len(S2_ARRAY.bands))
    pixel_bytes = values * S1_ARRAY.dtype.itemsize + AGB_ARRAY.dtype.itemsize
    return int(count * size[0] * size[1] * pixel_bytes / _ASSUMED_RATIO[codec])


def _check_space(store: StorePlace, size: tuple[int, int], count: int, codec: str) -> None:
    needed = packed_bytes(count, size, codec)
    store.require_space(needed, f"Packing {count} chips with codec {codec}")
