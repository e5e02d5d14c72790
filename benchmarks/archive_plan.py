"""What the whole dataset takes, computed from what one chip costs: the table of docs/archive.md.

    uv run python benchmarks/archive_plan.py
    uv run python benchmarks/archive.py --json | tail -1 > costs.json
    uv run python benchmarks/archive_plan.py - < costs.json

Without an argument the costs are those of benchmarks/results/archive.md, 2026-11-22, nothing else
running. A step takes the longest of what its processors, its disk and its network take; on object
storage it takes their sum, for a worker fetches a chip and then works on it.
"""

import json
import sys
from dataclasses import dataclass

CHIPS, FILES, BYTES = 11_462, 261_115, 291e9
LABELS = 8_689
FILES_A_CHIP = 24
REQUEST_CPU_S = 0.0005  # of a client of object storage, see the results
WAIT_S = 0.05  # assumed, until the first byte of files that are asked for side by side


@dataclass(frozen=True)
class Costs:
    """What was measured of one chip: processor seconds, and the rest.

    Attributes:
        verify_s: Verification.
        inspect_s: Chip table and statistics.
        pack_s: Packing.
        store_mb: Its part of an lz4 store.
        files_per_s: Files fetched by one machine.
        memory_gb: Memory of a process, with the one that hands out chips.
    """

    verify_s: float = 0.038
    inspect_s: float = 0.047
    pack_s: float = 0.047
    store_mb: float = 12.24
    files_per_s: float = 1013
    memory_gb: float = 1.050 / 3

    @classmethod
    def of(cls, measured: dict[str, float]) -> "Costs":
        """Costs out of the last line of ``archive.py --json``."""
        return cls(
            measured["verify_cpu_s_per_chip"],
            measured["inspect_cpu_s_per_chip"],
            measured["pack_cpu_s_per_chip"],
            measured["store_mb_per_chip"],
            measured["fetch_files_per_s"],
            measured["peak_memory_mb"] / 3000,
        )

    @property
    def store_bytes(self) -> float:
        """The whole store."""
        return CHIPS * self.store_mb * 1e6

    @property
    def all_s(self) -> float:
        """Processor time of the three steps, all chips."""
        return CHIPS * (self.verify_s + self.inspect_s + self.pack_s)


@dataclass(frozen=True)
class Machine:
    """An assumed machine; bytes a second."""

    processors: int
    read: float
    write: float
    network: float

    def fetching(self, costs: Costs) -> tuple[float, str]:
        """Seconds, and what bounds them."""
        ways = {
            "network": BYTES / self.network,
            "files/s": FILES / costs.files_per_s,
            "disk": BYTES / self.write,
        }
        return max((seconds, way) for way, seconds in ways.items())

    def step(self, chip_s: float, written: float = 0) -> tuple[float, str]:
        """Seconds of a step that reads everything, and what bounds them."""
        disk = max(BYTES / self.read, written / self.write)
        return max((CHIPS * chip_s / self.processors, "processors"), (disk, "disk"))


@dataclass(frozen=True)
class Workers:
    """Assumed workers beside object storage; bytes a second for each."""

    count: int
    network: float

    def step(self, chip_s: float, written_mb: float = 0) -> float:
        """Seconds of a step that reads everything."""
        fetched = BYTES / CHIPS / self.network + WAIT_S + FILES_A_CHIP * REQUEST_CPU_S
        sent = written_mb * 1e6 / self.network + WAIT_S if written_mb else 0
        return CHIPS * (fetched + chip_s + sent) / self.count


WORKSTATION = Machine(16, 2e9, 1e9, 1e9 / 8)
SERVER = Machine(96, 5e9, 3e9, 10e9 / 8)
CLOUD = Workers(20, 100e6)


def plan(costs: Costs) -> list[tuple[str, ...]]:
    """Rows of the table: what, and for each of the three places what it takes."""
    machines = (WORKSTATION, SERVER)
    requests = 3 * CHIPS * FILES_A_CHIP * REQUEST_CPU_S
    disk = f"{BYTES / 1e9:.0f} + {costs.store_bytes / 1e9:.0f} GB"
    steps = (
        ("verification", costs.verify_s, 0.0),
        ("chip table and statistics", costs.inspect_s, 0.0),
        ("packing", costs.pack_s, costs.store_mb),
    )
    return [
        ("disk: TIFFs and store", disk, disk, disk),
        ("fetching", *(_bound(*machine.fetching(costs)) for machine in machines),
         "copied from bucket to bucket"),
        *((name, *(_bound(*machine.step(chip_s, mb * 1e6 * CHIPS)) for machine in machines),
           _minutes(CLOUD.step(chip_s, mb))) for name, chip_s, mb in steps),
        ("requests: files read by each of the three, and written", "", "",
         f"{FILES:,} each, {2 * CHIPS + LABELS:,}"),
        ("processor time of the three, in all", *(_minutes(costs.all_s) for _ in machines),
         _minutes(costs.all_s + requests)),
        (f"memory, at {costs.memory_gb:.2f} GB a process",
         *(f"{(machine.processors + 1) * costs.memory_gb:.0f} GB" for machine in machines),
         f"{costs.memory_gb:.1f} GB a worker"),
    ]  # fmt: skip


def _bound(seconds: float, way: str) -> str:
    return f"{_minutes(seconds)} ({way})"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"


def main() -> None:
    """Print the table's rows."""
    costs = Costs.of(json.load(sys.stdin)) if sys.argv[1:] == ["-"] else Costs()
    for row in plan(costs):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
