"""How fast are training and prediction on two cores beside other busy processes?

The default run's network, options, loader and augmentation, on simulated chips of its size. Each
figure is the median over rounds; within a round everything is measured in turn. ``before`` is a
batch as one call whose operations are split over two OpenMP threads, as it was until November 2026
(and with the sub-pixel convolution).

Usage:
    uv run python benchmarks/busy_machine.py [--json] [--rounds 3] [--seconds 4]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from benchmark_chips import ArchiveChips

from biomassters.chips.archive.archive import Archive
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore, StoreSplit
from biomassters.chips.store.writer import write_store
from biomassters.inference.chips import whole_chips
from biomassters.inference.device import threads_inside
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import predict_batches, ready_network
from biomassters.network.options import ExecutionOptions, NetworkOptions
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips, write_simulated
from biomassters.training.micro_batches import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingState
from biomassters.training.train import new_network
from biomassters.training.train_step import Stepper, kept_memory

CPU = torch.device("cpu")
CORES, CHIPS, WARM_UP = 2, 32, 3
BEFORE = ExecutionOptions(subpixel=True)
NEIGHBOURS = {"quiet": 0, "one_neighbour": 1, "two_neighbours": 2}
# Ends by itself when this process is gone.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """Processes that compute without end, within the block."""
    with ExitStack() as block:
        for _ in range(count):
            process = block.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            block.callback(process.kill)
        time.sleep(0.5 * bool(count))
        yield


class Training:
    """Steps of the default run, epoch after epoch.

    Args:
        split: Chips to learn from.
        options: Of the run.
    """

    def __init__(self, split: StoreSplit, options: TrainingOptions) -> None:
        network = new_network(NetworkOptions(), BandScaling.reference(), 1)
        network.configure(options.execution)
        self._feed = Feed(split, range(CHIPS), [], options, CPU)
        self._stepper = Stepper(network, options, CPU)
        self._state = TrainingState.begin(network, options)
        self._size = options.batch_size
        self.chips_per_s(0.0)

    def chips_per_s(self, seconds: float) -> float:
        """Train for so long."""
        done, start = -WARM_UP, 0.0
        with threads_inside(self._stepper.threads):
            while True:
                for step in self._feed.read(self._state.position.epoch, 0):
                    if done == 0:
                        start = time.perf_counter()
                    self._stepper.take(self._state, step)
                    done += 1
                    if done > 0 and time.perf_counter() - start >= seconds:
                        return done * self._size / (time.perf_counter() - start)
                self._state.position.epoch += 1


class Prediction:
    """Whole chips, as the default run maps them: four views.

    Args:
        split: The chips.
        options: Of inference.
    """

    def __init__(self, split: StoreSplit, options: InferenceOptions) -> None:
        self._split, self._options = split, options
        network = new_network(NetworkOptions(), BandScaling.reference(), 1)
        self._network = ready_network(network, options, CPU)
        self.chips_per_s(0.0)

    def chips_per_s(self, seconds: float) -> float:
        """Map chips for so long."""
        done, start = 0, time.perf_counter()
        while True:
            chips = whole_chips(self._split, range(CHIPS), self._options, pin_memory=False)
            for _ in predict_batches(self._network, chips, self._options, CPU, progress=False):
                done += 1
            if time.perf_counter() - start >= seconds:
                return done / (time.perf_counter() - start)


def simulated_chips(folder: Path) -> StoreSplit:
    """Chips of the default run's size."""
    options = SimulationOptions(train_chips=CHIPS, test_chips=1)
    write_simulated(SimulatedChips(options), folder / "archive")
    archive = Archive.open(folder / "archive")
    write_store(folder / "store", ArchiveChips(archive), codec="lz4")
    return ChipStore(folder / "store").split("train")


def measure(split: StoreSplit, rounds: int, seconds: float) -> dict[str, object]:
    """Chips per second, medians over rounds."""
    training, prediction = Training(split, TrainingOptions()), Prediction(split, InferenceOptions())
    before = Training(split, TrainingOptions(cpu_parts=1, execution=BEFORE))
    found: dict[str, list[dict[str, float]]] = {"training": [], "prediction": [], "before": []}
    for number in range(rounds):
        for one in found.values():
            one.append({})
        for name, count in NEIGHBOURS.items():
            with busy_neighbours(count):
                found["training"][-1][name] = training.chips_per_s(seconds)
                found["before"][-1][name] = before.chips_per_s(seconds)
                found["prediction"][-1][name] = prediction.chips_per_s(seconds)
        print(f"round {number + 1}:", {name: one[-1] for name, one in found.items()}, flush=True)
    ratios = [
        now["quiet"] / then["quiet"]
        for now, then in zip(found["training"], found["before"], strict=True)
    ]
    medians = {
        what: {name: round(statistics.median(one[name] for one in rows), 2) for name in NEIGHBOURS}
        for what, rows in found.items()
    }
    return {**medians, "training_ratio_before": round(statistics.median(ratios), 3)}


def main() -> None:
    """Build the chips, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)  # neighbours inherit it
    print(f"{len(cores)} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name, kept_memory(CPU):
        result = measure(simulated_chips(Path(name)), options.rounds, options.seconds)
    for what, figures in result.items():
        print(f"{what:24} {figures}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
