"""What a machine gives to two independent processes that pack chips, relative to one.

Each reads the same few chips from the page cache, packs, encodes and checks them over and over, as
a worker does, and throws the files away: no Dask, nobody to hand out chips, nothing written. The
processors of a machine share caches, memory and clock, and virtual ones often a core, so this is
below 2 and bounds what two workers can reach.
"""

import multiprocessing
import time
from pathlib import Path
from typing import Any

SECONDS = 4.0
CHIPS = 4


def process_rates(archive: Path) -> tuple[float, float]:
    """Chips a second of one process alone, and of two at a time together."""
    return _rate(archive, 1), _rate(archive, 2)


def _rate(archive: Path, processes: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(processes), context.SimpleQueue()
    workers = [
        context.Process(target=_pack, args=(archive, barrier, rates)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [rates.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(found)


def _pack(root: Path, barrier: Any, rates: Any) -> None:
    from biomassters.chips.archive.archive import Archive
    from biomassters.chips.store.manifest import Slot
    from biomassters.chips.store.shards import packed_chip
    from biomassters.workers.cluster import keep_memory

    keep_memory()  # as on Dask's workers
    archive = Archive.open(root)
    names = sorted(set(archive.features["chip_id"]))[:CHIPS]

    def pack(number: int) -> None:
        slot = Slot("train", number, names[number % CHIPS], "")
        packed_chip(archive.read_chip(slot.chip_id), slot, "lz4")

    for number in range(CHIPS):  # everything is imported, and the files are in the page cache
        pack(number)
    barrier.wait()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        pack(done)
        done += 1
    rates.put(done / (time.perf_counter() - started))
