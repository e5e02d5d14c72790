"""How fast are chips fed? The threaded loader against a reader written the original's way.

All read the same chips of 12 months, 256 x 256 pixels, in turn within one run, from a warm
page cache, in batches of 8; each has two threads or two worker processes. A ratio is taken
within a round and the median over rounds is quoted, so that other work on the machine
touches both sides.

The original's way scales and augments on the processor; here that is left to the device,
so its time is not part of the threaded loader's.

Usage:
    uv run python benchmarks/loader.py [--json] [--chips 48] [--rounds 5] [--folder DIR]
"""

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from benchmark_chips import ArchiveChips, benchmark_chips, describe_source
from reference_reader import reference_loader

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.store.reader import StoreSplit
from biomassters.chips.store.writer import write_store
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.samples import plain_sample

BATCH = 8
THREADS = 2
LEAST_SECONDS = 1.5  # of one measurement; a quick reader passes over the chips several times
STORES = {"lz4": "lz4", "zstd": "zstd", "uncompressed": "none"}

Reader = Callable[[], int]


def build(folder: Path, count: int) -> tuple[Archive, dict[str, StoreSplit]]:
    """Write the archive and a store of each codec."""
    write_archive(folder / "archive", benchmark_chips(count), total=count)
    archive = Archive.open(folder / "archive")
    source = ArchiveChips(archive)
    splits = {
        name: write_store(folder / name, source, codec=codec).split("train")
        for name, codec in STORES.items()
    }
    return archive, splits


def readers_of(archive: Archive, splits: dict[str, StoreSplit]) -> dict[str, Reader]:
    """Functions that read every chip once and return how many there were."""
    chip_ids = archive.chip_ids("train")
    reference = reference_loader(archive, chip_ids)
    plain = reference_loader(archive, chip_ids, augment=False)
    readers: dict[str, Reader] = {
        "reference": lambda: sum(len(chips) for chips, _ in reference),
        "reference_plain": lambda: sum(len(chips) for chips, _ in plain),
    }
    samples = [plain_sample(chip, range(MONTH_COUNT)) for chip in range(len(chip_ids))]
    batches = [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]
    for name, split in splits.items():
        loader = ThreadedLoader(split, batches, crop=None, threads=THREADS)
        readers[name] = partial(_read_all, loader)
    return readers


def _read_all(loader: ThreadedLoader) -> int:
    return sum(len(batch) for batch in loader)


def chips_per_s(read: Reader) -> float:
    """Read all chips, again and again until enough time has passed."""
    chips, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < LEAST_SECONDS:
        chips += read()
    return chips / seconds


def measure(readers: dict[str, Reader], rounds: int) -> dict[str, list[float]]:
    """Measure the readers in turn; what comes first warms up caches, memory and workers."""
    for read in readers.values():
        read()
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds):
        for name, read in readers.items():
            gc.collect()
            speeds[name].append(chips_per_s(read))
        line = ", ".join(f"{name} {values[-1]:.1f}" for name, values in speeds.items())
        print(f"round {number + 1}: {line} chips/s", flush=True)
    return speeds


def summarise(speeds: dict[str, list[float]]) -> dict[str, float]:
    """Medians over rounds, and medians of the ratios within each round."""
    result = {f"{name}_chips_per_s": statistics.median(values) for name, values in speeds.items()}
    for name in STORES:
        ratios = [a / b for a, b in zip(speeds[name], speeds["reference"], strict=True)]
        result[f"{name}_ratio"] = statistics.median(ratios)
    return {name: round(value, 2) for name, value in result.items()}


def table(speeds: dict[str, list[float]], result: dict[str, float]) -> str:
    """The result for people, as a Markdown table."""
    lines = ["| reader | chips/s, median (range) | ratio |", "|---|---|---|"]
    for name, values in speeds.items():
        speed = result[f"{name}_chips_per_s"]
        ratio = result.get(f"{name}_ratio", speed / result["reference_chips_per_s"])
        spread = f"{min(values):.1f}-{max(values):.1f}"
        lines.append(f"| {name} | {speed:.1f} ({spread}) | {ratio:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Build the chips, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    parser.add_argument("--chips", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; default a temporary folder")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} before")
    print(f"{options.chips} chips made from {describe_source()}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        archive, splits = build(Path(folder), options.chips)
        torch.set_num_threads(1)
        speeds = measure(readers_of(archive, splits), options.rounds)
    result = summarise(speeds)
    print(table(speeds, result))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
