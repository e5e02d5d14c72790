"""How fast the archive is fetched, verified and packed, and how much memory that takes.

    uv run python benchmarks/archive.py --json

Everything runs on this machine: the chips are copies of one real chip (or noise where there is
none), the object store is a process on loopback. What is compared is measured in turn, and the
median counts. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from packing_ceiling import process_rates

from biomassters.acquisition.acquire import acquire
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.archive.layout import ArchiveFiles
from biomassters.chips.archive.metadata import read_features
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.chip import Chip
from biomassters.chips.folds import FoldOptions, make_folds
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.quality.verification import VerificationOptions, pixel_facts, verify_archive
from biomassters.chips.store.writer import write_store
from biomassters.io.checksum import posix_cksum
from biomassters.io.raster import read_raster
from biomassters.workers.cluster import DaskWorkers, local_cluster
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Threads, Workers

_HERE = Path(__file__).parent
_SAMPLE = Path(os.environ.get("BIOMASSTERS_SAMPLE", _HERE.parents[1] / "shared" / "biomassters"))
_CHIP = "000aa810"
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # else the default, a disk


def typical_chip() -> Chip:
    """A training chip of the median: 12 Sentinel-1 and 11 Sentinel-2 images, 256 x 256 pixels."""
    if not _SAMPLE.is_dir():
        return _noise()
    chip = Archive.open(_SAMPLE).read_chip(_CHIP)
    have = chip.present[:, 1].nonzero()[0]
    s2, present = chip.images["s2"].copy(), chip.present.copy()
    for number, month in enumerate((~chip.present[:, 1]).nonzero()[0][:5]):
        s2[month] = chip.images["s2"][have[number % len(have)]]
        present[month, 1] = True
    return replace(chip, images={**chip.images, "s2": s2}, present=present)


def _noise() -> Chip:
    random = np.random.default_rng(0)
    present = np.ones((12, 2), bool)
    present[3, 1] = False
    s1_db = random.normal(-12, 3, (12, 4, 256, 256)).astype(np.float32)
    s2 = random.integers(1, 5000, (12, 11, 256, 256)).astype(np.uint16)
    s2[3] = 0
    agb = random.gamma(1, 60, (256, 256)).astype("f4")
    return Chip(_CHIP, "train", {"s1": s1_db, "s2": s2}, present, agb)


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cpu_seconds(work: Callable[[], object]) -> float:
    """How long this process's threads were on a processor during a call.

    On a machine that others use as well this says what a core can do; time on the clock says
    what was left over.
    """
    started = time.process_time()
    work()
    return time.process_time() - started


def median_rates(kinds: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Calls each kind in turn, several times; what they return."""
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, measure in kinds.items():
            found[name].append(measure())
    return found


def file_costs(archive: Archive, repeats: int) -> dict[str, float]:
    """Per megabyte of files: checksum, reading to an array, checks of the values."""
    paths = [path for path in archive.features["path"] if path][:24]
    megabytes = sum(Path(path).stat().st_size for path in paths) / 1e6
    contents = [Path(path).read_bytes() for path in paths]
    arrays = [read_raster(path)[0] for path in paths]
    works = {
        "cksum": lambda: [posix_cksum(data) for data in contents],
        "read": lambda: [read_raster(path) for path in paths],
        "checks": lambda: [pixel_facts(array) for array in arrays],
    }
    clock = median_rates({name: lambda w=w: seconds(w) for name, w in works.items()}, repeats)
    cpu = median_rates({name: lambda w=w: cpu_seconds(w) for name, w in works.items()}, repeats)
    return {
        "cksum_mb_per_s": megabytes / statistics.median(clock["cksum"]),
        "cksum_mb_per_cpu_s": megabytes / statistics.median(cpu["cksum"]),
        "checks_to_read": statistics.median(clock["checks"]) / statistics.median(clock["read"]),
        "checks_to_read_cpu": statistics.median(cpu["checks"]) / statistics.median(cpu["read"]),
    }


class Memory:
    """The most memory that this process and its children have at once, MB (sum of RSS)."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_mb = max(self.peak_mb, total / 1e6)


@contextmanager
def dask_workers(count: int) -> Iterator[Workers]:
    """Dask's workers that have started already."""
    with local_cluster(count, memory_bytes=10**9) as cluster:
        yield DaskWorkers(DaskOptions(scheduler_address=cluster.scheduler_address))


def chip_costs(root: Path, chips: int, repeats: int) -> dict[str, float]:
    """Chips per second of verification, inspection and packing; workers; memory."""
    archive = Archive.open(root / "archive")
    pack = packing(root / "store", archive, chips)

    def verify(workers: Workers) -> float:
        options = VerificationOptions()
        return chips / seconds(lambda: verify_archive(archive, root / "work", options, workers))

    def inspect(workers: Workers) -> float:
        return chips / seconds(lambda: inspect_archive(archive, InspectionOptions(), workers))

    with Memory() as here:
        pack(None)
    cpu = {
        f"{name}_cpu_s_per_chip": cpu_seconds(work) / chips
        for name, work in {
            "verify": lambda: verify(Threads(1)),
            "inspect": lambda: inspect(Threads(1)),
            "pack": lambda: pack(None),
        }.items()
    }
    with dask_workers(1) as one, dask_workers(2) as two:
        inspect(one), inspect(two)  # imports
        kinds = {
            "verify": lambda: verify(Threads(2)),
            "verify_1_thread": lambda: verify(Threads(1)),
            "inspect": lambda: inspect(Threads(2)),
            "inspect_two_workers": lambda: inspect(two),
            "pack": lambda: pack(None),
        }
        found = median_rates(kinds, repeats)
    rates = {f"{name}_chips_per_s": statistics.median(values) for name, values in found.items()}
    store_bytes = sum(path.stat().st_size for path in (root / "store").rglob("*") if path.is_file())
    return (
        rates
        | cpu
        | {
            "peak_memory_threads_mb": here.peak_mb,
            "store_mb_per_chip": store_bytes / chips / 1e6,
        }
    )


def packing(store: Path, archive: Archive, chips: int) -> Callable[[Workers | None], float]:
    """What packs an archive of so many chips anew and says how many chips a second that were."""
    table, _ = inspect_archive(archive, InspectionOptions())
    source = UsableChips(archive, table)

    def pack(workers: Workers | None) -> float:
        shutil.rmtree(store, ignore_errors=True)
        return chips / seconds(lambda: write_store(store, source, workers=workers))

    return pack


def worker_costs(root: Path, chips: int, repeats: int) -> dict[str, float]:
    """Two workers against one, with enough chips that beginning and end don't count.

    On the disk that was asked for, and with the store in memory; beside them, in the same rounds,
    what two independent processes reach against one.
    """
    archive = Archive.open(root / "many")
    with tempfile.TemporaryDirectory(dir=_MEMORY) as memory:
        places = {"": root / "store", "_in_memory": Path(memory) / "store"}
        packs = {name: packing(place, archive, chips) for name, place in places.items()}
        with dask_workers(1) as one, dask_workers(2) as two:
            for pool in (one, two):  # imports
                packs["_in_memory"](pool)
            kinds: dict[str, Callable[[], float]] = {}
            for name, pack in packs.items():
                kinds[f"pack_one_worker{name}"] = lambda pack=pack: pack(one)
                kinds[f"pack_two_workers{name}"] = lambda pack=pack: pack(two)
            kinds["ceiling"] = lambda: _ceiling(root / "many")
            found = median_rates(kinds, repeats)
            shutil.rmtree(places["_in_memory"])  # which takes time as well
            times = _processor_times(packs["_in_memory"], one, chips)
        with dask_workers(2) as two, Memory() as there:
            packs[""](two)
    ratios = {"two_worker_ceiling": statistics.median(found.pop("ceiling"))}
    for name in packs:
        pairs = zip(found[f"pack_one_worker{name}"], found[f"pack_two_workers{name}"], strict=True)
        ratios[f"two_worker_ratio{name}"] = statistics.median(b / a for a, b in pairs)
    rates = {f"{name}_chips_per_s": statistics.median(values) for name, values in found.items()}
    return rates | ratios | times | {"peak_memory_mb": there.peak_mb}


def _ceiling(archive: Path) -> float:
    alone, together = process_rates(archive)
    return together / alone


def _processor_times(
    pack: Callable[[Workers], float], workers: Workers, chips: int
) -> dict[str, float]:
    """Processor time a chip of the workers, and of this process: client and scheduler."""
    me = psutil.Process()

    def now() -> tuple[float, float]:
        times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
        spent = [one.user + one.system for one in times]
        return spent[0], sum(spent[1:])

    before = now()
    pack(workers)
    here, there = (end - begin for begin, end in zip(before, now(), strict=True))
    return {"client_cpu_s_per_chip": here / chips, "worker_cpu_s_per_chip": there / chips}


def fetch_costs(root: Path, chips: int) -> dict[str, float]:
    """22 small files a chip from a loopback object store with 20 ms latency and faults."""
    bucket = root / "objects" / "forest"
    tiny = replace(_noise(), chip_id="template")
    crop = {name: year[..., :4, :4] for name, year in tiny.images.items()}
    present = tiny.present.copy()
    present[:2, 1] = False
    tiny = replace(tiny, images=crop, present=present, agb_mg_per_ha=tiny.agb_mg_per_ha[:4, :4])
    write_archive(bucket, [tiny], progress=False)
    target = root / "fetched"
    for name in ("features_metadata.csv", "train_agbm_metadata.csv"):
        _multiply(bucket / name, target / name, chips)
    server = subprocess.Popen(
        [sys.executable, _HERE / "loopback_store.py", bucket.parent, "--latency-ms", "20",
         "--failures", "0.01", "--truncations", "0.01", "--alias", "template"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"  # type: ignore[union-attr]
    options = AcquisitionOptions(endpoint=endpoint)
    few = options.model_copy(
        update={"parallel": 1, "subset": options.subset.model_copy(update={"first": 10})}
    )
    files_one_by_one = len(acquire_timed(target, few, alone := []))
    for folder in ("train_features", "train_agbm"):
        shutil.rmtree(target / folder)
    table = acquire_timed(target, options, many := [])
    server.communicate()
    assert set(table["status"]) == {"fetched"}, table["status"].value_counts()
    return {
        "fetch_files": len(table),
        "fetch_files_per_s": len(table) / many[0],
        "fetch_one_by_one_files_per_s": files_one_by_one / alone[0],
        "fetch_speedup": (len(table) / many[0]) / (files_one_by_one / alone[0]),
    }


def acquire_timed(root: Path, options: AcquisitionOptions, taken: list[float]) -> pd.DataFrame:
    """``acquire``; appends how long it took."""
    started = time.perf_counter()
    table = acquire(root, options)
    taken.append(time.perf_counter() - started)
    return table


def link_copies(source: Path, target: Path, chips: int) -> None:
    """An archive of one chip as one of many: links cost no space, but are read like files."""
    for name in ("features_metadata.csv", "train_agbm_metadata.csv"):
        _multiply(source / name, target / name, chips)
    for path in source.glob("*/*.tif"):
        folder = target / path.parent.name
        folder.mkdir(exist_ok=True)
        for number in range(chips):
            (folder / path.name.replace("template", f"{number:08x}")).hardlink_to(path)


def _multiply(source: Path, target: Path, chips: int) -> None:
    """The metadata of one chip, as of many with other names; without labels' files."""
    target.parent.mkdir(exist_ok=True)
    rows = pd.read_csv(source, dtype=str)
    tables = []
    for number in range(chips):
        name = f"{number:08x}"
        table = rows.assign(chip_id=name)
        table["filename"] = rows["filename"].str.replace("template", name)
        folder = "train_features" if "split" in rows else "train_agbm"
        table["s3path_eu"] = f"s3://forest/{folder}/" + table["filename"]
        tables.append(table)
    pd.concat(tables).to_csv(target, index=False)


def inventory_costs(root: Path) -> dict[str, float]:
    """The whole dataset's listing to a table of chips and folds."""
    if not _SAMPLE.is_dir():
        return {}
    folder = root / "inventory"
    folder.mkdir()
    listed = pd.read_parquet(_SAMPLE / "features_inventory.parquet")
    listed.to_csv(folder / "features_metadata.csv", index=False)
    started, cpu = time.perf_counter(), time.process_time()
    features = read_features(ArchiveFiles.find(folder))
    table = features.groupby("chip_id", as_index=False)["split"].first()
    found = {
        "inventory_s": time.perf_counter() - started,
        "inventory_cpu_s": time.process_time() - cpu,
    }
    usable = table.assign(usable=True, agb_mean_mg_per_ha=0.0)
    import sklearn.model_selection  # noqa: F401 (its start isn't what is measured)

    return found | {"folds_s": seconds(lambda: make_folds(usable, FoldOptions(count=10)))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the last line's JSON")
    parser.add_argument("--chips", type=int, default=24, help="0 leaves them out")
    parser.add_argument("--worker-chips", type=int, default=96, help="0 leaves out two against one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fetch-chips", type=int, default=1000, help="0 leaves fetching out")
    parser.add_argument("--folder", type=Path, help="where to work; needs about 3 GB")
    given = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for part in _parts(Path(folder), given):
            part["load_average"] = os.getloadavg()[0]
            if not given.json:
                for name, value in part.items():
                    print(f"{name:32} {value:10.2f}", flush=True)
            found |= part
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


def _parts(root: Path, given: argparse.Namespace) -> Iterator[dict[str, float]]:
    chip = replace(typical_chip(), chip_id="template")
    write_archive(root / "one", [chip], progress=False)
    if given.chips:
        link_copies(root / "one", root / "archive", given.chips)
        yield file_costs(Archive.open(root / "archive"), max(given.repeats, 5))
        yield chip_costs(root, given.chips, given.repeats)
    if given.worker_chips:
        link_copies(root / "one", root / "many", given.worker_chips)
        yield worker_costs(root, given.worker_chips, given.repeats)
    if given.fetch_chips:
        yield fetch_costs(root, given.fetch_chips)
    yield inventory_costs(root)


if __name__ == "__main__":
    main()
