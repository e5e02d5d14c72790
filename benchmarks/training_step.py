"""How much faster is a training step here than in a loop written the original's way?

Same network, precision, batch and chips; each side runs in a process of its own, in turn, and the
ratio is taken within a round.

- ``ours``: threads read integers of the months that are kept, scaling and augmentation run on the
  device, fused AdamW.
- ``original``: worker processes read TIFFs with tifffile, scale and augment on the processor and
  hand float32 over; missing and dropped months are zeros that are encoded all the same; the loss
  is fetched and the device waited for at every step.

Without a GPU: the default run's small backbone, batches of 4. With one: the winning network,
batches of 8, bfloat16, and the days that the full recipe would take at this speed.

Usage:
    uv run python benchmarks/training_step.py [--json] [--rounds 3] [--steps N]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from benchmark_chips import ArchiveChips, benchmark_chips, describe_source
from reference_reader import reference_loader

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.inference.device import autocast
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import REFERENCE_DECODER_CHANNELS, NetworkOptions
from biomassters.training.losses import masked_rmse
from biomassters.training.micro_batches import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingState
from biomassters.training.train import new_network
from biomassters.training.train_step import Stepper, kept_memory, training_precision

CPU = SimpleNamespace(device="cpu", chips=12, batch=4, steps=4, warm_up=1, workers=2)
CUDA = SimpleNamespace(device="cuda", chips=64, batch=8, steps=24, warm_up=4, workers=8)
SIDES = ("ours", "original")
RECIPE_CHIPS = 900 * 7_820 + 200 * 8_689  # passes over the training folds, then over all chips
DROPOUT_SHARE, DROP_RATE = 0.5, 0.3


def network_of(case: SimpleNamespace) -> AgbNet:
    """The network of both sides."""
    large = NetworkOptions(
        backbone="tf_efficientnetv2_l.in21k", decoder_channels=REFERENCE_DECODER_CHANNELS
    )
    options = large if case.device == "cuda" else NetworkOptions()
    return new_network(options, BandScaling.reference(), 1).to(case.device)


def options_of(case: SimpleNamespace) -> TrainingOptions:
    """Whole chips, as the recipe has them."""
    return TrainingOptions(
        crop=None, batch_size=case.batch, device=case.device, loader_threads=case.workers
    )


def run_ours(case: SimpleNamespace, folder: Path) -> tuple[float, float]:
    """Seconds of the measured steps, and of them those spent waiting for data."""
    options, device = options_of(case), torch.device(case.device)
    network = network_of(case)
    feed = Feed(ChipStore(folder / "store").split("train"), range(case.chips), [], options, device)
    state, stepper = TrainingState.begin(network, options), Stepper(network, options, device)
    done, seconds, wait_s = 0, 0.0, 0.0
    while done < case.warm_up + case.steps:
        waited, start = 0.0, time.perf_counter()
        for step in feed.read(state.position.epoch, 0):
            stepper.take(state, step)
            done += 1
            now = time.perf_counter()
            if done > case.warm_up:
                seconds, wait_s = seconds + now - start, wait_s + feed.wait_s - waited
            start, waited = now, feed.wait_s
            if done == case.warm_up + case.steps:
                break
        state.position.epoch += 1
    return seconds, wait_s


def run_original(case: SimpleNamespace, folder: Path) -> tuple[float, float]:
    """As ``run_ours``, of the original's way."""
    device, network = torch.device(case.device), network_of(case).train()
    precision = training_precision(device, "auto")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    archive = Archive.open(folder / "archive")
    loader = reference_loader(
        archive, archive.chip_ids("train"), workers=case.workers, batch_size=case.batch
    )
    random, done, seconds, wait_s = np.random.default_rng(1), 0, 0.0, 0.0
    start = time.perf_counter()
    while done < case.warm_up + case.steps:
        for x_BTCHW, agb_BHW in loader:
            arrived = time.perf_counter()
            drop_months(x_BTCHW, random)
            x_MCHW = x_BTCHW.to(device).flatten(0, 1)
            chip_of_month = torch.arange(case.batch, device=device).repeat_interleave(MONTH_COUNT)
            with autocast(device, precision):
                agb = network.forward_scaled(x_MCHW, chip_of_month, case.batch)
                loss = masked_rmse(agb.squeeze(1), agb_BHW.to(device)).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            if case.device == "cuda":
                torch.cuda.synchronize()
            done += 1
            now = time.perf_counter()
            if done > case.warm_up:
                seconds, wait_s = seconds + now - start, wait_s + arrived - start
            start = now
            if done == case.warm_up + case.steps:
                break
    return seconds, wait_s


def drop_months(x_BTCHW: torch.Tensor, random: np.random.Generator) -> None:
    """Set months to zero, in place, as the original's augmentation does."""
    for chip in x_BTCHW:
        if random.random() < DROPOUT_SHARE:
            dropped = random.random(MONTH_COUNT) < DROP_RATE
            chip[torch.from_numpy(dropped)] = 0.0


def measure_side(side: str, case: SimpleNamespace, folder: Path) -> dict[str, float]:
    """One side's figures; called in a process of its own."""
    if side == "ours":
        with kept_memory(torch.device(case.device)):
            seconds, wait_s = run_ours(case, folder)
    else:
        seconds, wait_s = run_original(case, folder)
    if case.device == "cuda":
        memory_mib = torch.cuda.max_memory_allocated() / 2**20
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        memory_mib = (own + worker * case.workers * (side == "original")) / 1024
    samples_per_s = case.steps * case.batch / seconds
    return {
        "samples_per_s": samples_per_s,
        "wait_share": wait_s / seconds,
        "memory_mib": memory_mib,
    }


def in_own_process(side: str, steps: int, folder: Path) -> dict[str, float]:
    """Measure a side from a fresh start, so that memory is its own."""
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps)]
    done = subprocess.run(
        [*command, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def summarise(rounds: list[dict[str, dict[str, float]]], case: SimpleNamespace) -> dict[str, float]:
    """Medians over rounds, ratios taken within each."""

    def median(figure: str, side: str) -> float:
        return statistics.median(one[side][figure] for one in rounds)

    def ratio(figure: str, above: str, below: str) -> float:
        return statistics.median(one[above][figure] / one[below][figure] for one in rounds)

    result = {
        "ratio": ratio("samples_per_s", "ours", "original"),
        "wait_share": median("wait_share", "ours"),
        "memory_ratio": ratio("memory_mib", "ours", "original"),
    }
    for side in SIDES:
        result |= {f"{side}_{name}": median(name, side) for name in rounds[0][side]}
    if case.device == "cuda":
        for side in SIDES:
            result[f"{side}_recipe_days"] = RECIPE_CHIPS / result[f"{side}_samples_per_s"] / 86_400
    return {name: round(value, 4) for name, value in result.items()}


def machine(case: SimpleNamespace) -> str:
    """What it ran on."""
    name = torch.cuda.get_device_name() if case.device == "cuda" else platform.machine()
    load = os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, load {load:.1f}, torch {torch.__version__}"


def main() -> None:
    """Build the chips, measure both sides in turn, print."""
    case = CUDA if torch.cuda.is_available() else CPU
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=case.steps)
    parser.add_argument("--folder", type=Path, help="where chips are written or lie")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    case.steps = options.steps
    if options.side:
        print(json.dumps(measure_side(options.side, case, options.folder)))
        return
    print(f"{machine(case)}; {case.chips} chips made from {describe_source()}")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_archive(folder / "archive", benchmark_chips(case.chips), total=case.chips)
        write_store(folder / "store", ArchiveChips(Archive.open(folder / "archive")), codec="lz4")
        rounds = []
        for number in range(options.rounds):
            rounds.append({side: in_own_process(side, case.steps, folder) for side in SIDES})
            print(f"round {number + 1}: {rounds[-1]}", flush=True)
    result = summarise(rounds, case)
    for figure, value in result.items():
        print(f"{figure:28} {value:12.4f}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
