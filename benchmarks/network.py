"""How much faster is this network than the reference's forward pass written plainly?

Both hold the same weights and see the same images. ``plain`` (plain_network.py) encodes twelve
padded months, upsamples before it convolves and attends over a [B, T, H, W, D] tensor; ``ours``
is the project's network with its default execution (BatchNorm folded for inference). On a CPU that
multiplies bfloat16 both run in it as well. They take turns in one run; medians are compared. A
training step is forward and backward with the recipe's month dropout (half of the chips lose each
month with probability 0.3).

Needs torch, torchvision and timm alone:

    python benchmarks/network.py            # CPU; and CUDA where there is one
    python benchmarks/network.py --json     # last line: JSON
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from plain_network import PlainNetwork  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from biomassters.chips.bands import BANDS, MONTH_COUNT  # noqa: E402
from biomassters.network.agb_net import AgbNet  # noqa: E402
from biomassters.network.folding import fold_batch_norm  # noqa: E402

WIDTHS = (384, 368, 352, 336, 320)
CPU_CASE = SimpleNamespace(device="cpu", backbone="tf_efficientnetv2_b0", size=128, batch=4)
CUDA_CASE = SimpleNamespace(device="cuda", backbone="tf_efficientnetv2_l", size=256, batch=8)
SEED = 11


class ReferenceScaling:
    """The reference's constants, without the dependencies of ``chips.scaling``."""

    def offset_and_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Minimum and range of each band."""
        minimum = np.array([band.reference_min for band in BANDS], np.float32)
        maximum = np.array([band.reference_max for band in BANDS], np.float32)
        return minimum, maximum - minimum


def build(case: SimpleNamespace) -> tuple[PlainNetwork, AgbNet]:
    """Both networks with the same weights, in channels_last as the reference's training."""
    torch.manual_seed(SEED)
    options = SimpleNamespace(
        backbone=case.backbone,
        pretrained=False,
        allow_random_start=False,
        decoder_channels=WIDTHS,
        scse=True,
    )
    ours = AgbNet(options, ReferenceScaling()).to(case.device)
    plain = PlainNetwork(case.backbone, len(BANDS), WIDTHS).to(case.device)
    weights = {k: v for k, v in ours.state_dict().items() if not k.startswith("scaler.")}
    plain.load_state_dict(weights)
    return plain.to(memory_format=torch.channels_last), ours


class Images:
    """The same images padded, and packed."""

    def __init__(self, case: SimpleNamespace, seed: int, *, drop: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (case.batch, MONTH_COUNT)
        chosen = torch.rand(case.batch, 1, generator=generator) < 0.5
        dropped = (torch.rand(shape, generator=generator) < 0.3) & chosen & drop
        dropped[dropped.all(dim=1), 0] = False
        images = torch.rand(*shape, len(BANDS), case.size, case.size, generator=generator)
        images[dropped] = 0
        chip_of_month = torch.arange(case.batch)[:, None].expand(shape)[~dropped]
        self.chips, self.kept = case.batch, float((~dropped).float().mean())
        flat = images.flatten(0, 1).to(case.device, memory_format=torch.channels_last)
        self.padded, self.dropped = flat.unflatten(0, shape), dropped.to(case.device)
        packed = flat[(~dropped).flatten().to(case.device)]
        self.packed = packed.contiguous(memory_format=torch.channels_last)
        self.chip_of_month = chip_of_month.to(case.device)


Forward = Callable[[Images], Tensor]


def forwards(plain: PlainNetwork, ours: AgbNet) -> dict[str, Forward]:
    """Name → prediction of a batch."""
    return {
        "plain": lambda i: plain(i.padded, i.dropped),
        "ours": lambda i: ours.forward_scaled(i.packed, i.chip_of_month, i.chips),
    }


def autocast(device: str) -> torch.autocast:
    """bfloat16 on a GPU, float32 on a CPU."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


def in_bfloat16(ways: dict[str, Forward], device: str) -> dict[str, Forward]:
    """The same ways in bfloat16, where a CPU multiplies it; on a GPU all are in it anyway."""
    able = torch.cpu.get_capabilities() if device == "cpu" else {}
    if not (able.get("avx512_bf16") or able.get("amx_bf16")):
        return {}

    def lowered(forward: Forward) -> Forward:
        return torch.autocast("cpu", dtype=torch.bfloat16)(forward)

    return {f"{name}, bfloat16": lowered(forward) for name, forward in ways.items()}


def infer(forward: Forward, images: Images) -> None:
    """One batch, without gradients."""
    with torch.inference_mode(), autocast(images.packed.device.type):
        forward(images)


def train(forward: Forward, images: Images) -> None:
    """Forward and backward; gradients pile up on what is there."""
    with autocast(images.packed.device.type):
        loss = forward(images).float().square().mean()
    loss.backward()


def seconds(work: Callable[[], None], device: str) -> float:
    """Wall time of some work."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(
    case: SimpleNamespace, step: Callable[[Forward, Images], None], ways: dict[str, Forward],
    *, drop: bool, repeats: int,
) -> dict[str, float]:  # fmt: skip
    """Median seconds of each way, measured in turn on the same images."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        images = Images(case, SEED + repeat, drop=drop)
        for name, forward in ways.items():
            taken = seconds(lambda f=forward, i=images: step(f, i), case.device)
            if repeat:  # the first round warms up
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def matrix_peak(device: str) -> float:
    """FLOP/s of a large matrix product in the precision of the benchmark."""
    size = 8192 if device == "cuda" else 2048
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = min(seconds(lambda: torch.mm(a, b), device) for _ in range(20))
    return 2 * size**3 / best


def largest_difference(ways: dict[str, Forward], images: Images) -> float:
    """Between the two predictions, relative to the largest value."""
    with torch.inference_mode():
        plain, ours = (forward(images).float() for forward in ways.values())
    return float((plain - ours).abs().max() / plain.abs().max())


def count_flops(forward: Forward, images: Images) -> float:
    """Of a batch's prediction, the plain way."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        forward(images)
    return float(counter.get_total_flops())


def measure(case: SimpleNamespace, repeats: int) -> dict[str, object]:
    """All figures of one device."""
    plain, ours = build(case)
    images = Images(case, SEED, drop=True)
    ways = forwards(plain.eval(), ours.eval())
    difference = largest_difference(ways, images)
    flops = count_flops(ways["plain"], Images(case, SEED, drop=False)) / case.batch
    folded = forwards(plain, fold_batch_norm(ours))
    folded |= in_bfloat16(folded, case.device)
    inference = take_turns(case, infer, folded, drop=False, repeats=repeats)
    plain.train(), ours.train()
    lower = in_bfloat16(ways, case.device)
    training = take_turns(case, train, ways | lower, drop=True, repeats=repeats)
    peak = matrix_peak(case.device)
    memory = {
        mode: {name: peak_memory(case, name, mode) for name in ways}
        for mode in ("inference", "training")
    }
    kept = statistics.mean(
        Images(case, SEED + 1 + repeat, drop=True).kept for repeat in range(repeats)
    )
    return {
        "case": vars(case) | {"decoder": WIDTHS, "repeats": repeats},
        "inference_ratio": inference["plain"] / inference["ours"],
        "training_ratio": training["plain"] / training["ours"],
        "memory_ratio": memory["training"]["ours"] / memory["training"]["plain"],
        "inference_memory_ratio": memory["inference"]["ours"] / memory["inference"]["plain"],
        "largest_relative_difference": difference,
        "months_kept_in_training": kept,
        "inference_samples_per_s": {k: case.batch / v for k, v in inference.items()},
        "training_samples_per_s": {k: case.batch / v for k, v in training.items()},
        "peak_memory_bytes": memory,
        "plain_flop_per_sample": flops,
        "matrix_peak_flop_per_s": peak,
        # Of the arithmetic that the plain way needs; ours needs less for the same result.
        "inference_flop_per_s": {k: flops * case.batch / v for k, v in inference.items()},
        "inference_share_of_peak": {k: flops * case.batch / v / peak for k, v in inference.items()},
    }


def peak_memory(case: SimpleNamespace, name: str, mode: str) -> int:
    """Peak memory of one way in a process of its own; on a CPU above what imports take."""
    arguments = [sys.executable, __file__, "--peak-memory-of", name, "--mode", mode]
    for key, value in vars(case).items():
        arguments += [f"--{key}", str(value)]
    run = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return int(run.stdout.split()[-1])


def peak_resident_bytes() -> int:
    """Of this process. Linux's ru_maxrss begins with the parent's peak, so it is not asked."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def print_peak_memory(case: SimpleNamespace, name: str, mode: str) -> None:
    """Run two steps of one way and print the peak in bytes."""
    imported = peak_resident_bytes()
    plain, ours = build(case)
    training = mode == "training"
    plain.train(training), ours.train(training)
    if name == "plain":
        ours = ours.to("meta")
    else:
        plain = plain.to("meta")
        ours = ours if training else fold_batch_norm(ours)
    ways = forwards(plain, ours)
    images = Images(case, SEED, drop=training)
    if name == "plain":
        images.packed = images.packed[:0]
    else:
        images.padded = images.padded[:0]
    for _ in range(2):
        (train if training else infer)(ways[name], images)
    if case.device == "cuda":
        print(torch.cuda.max_memory_allocated())
    else:
        print(peak_resident_bytes() - imported)


def report(figures: dict[str, object]) -> None:
    """Print the figures of one device for people."""
    case = figures["case"]
    print(f"{case['device']}: {case['backbone']}, {case['size']} x {case['size']}, "
          f"batch {case['batch']}, decoder {'-'.join(map(str, WIDTHS))}")  # fmt: skip
    for step in ("inference", "training"):
        speed, memory = figures[f"{step}_samples_per_s"], figures["peak_memory_bytes"][step]
        for name, per_s in speed.items():
            used = f"{memory[name] / 2**20:8.0f} MiB" if name in memory else ""
            print(f"  {step:9} {name:15} {per_s:8.3f} samples/s {used}")
        print(f"  {step:9} ratio {figures[f'{step}_ratio']:.2f}")
    share = figures["inference_share_of_peak"]
    print(f"  training memory, ours / plain: {figures['memory_ratio']:.2f}")
    print(f"  matrix peak {figures['matrix_peak_flop_per_s'] / 1e9:.0f} GFLOP/s; inference at "
          f"{share['plain']:.0%} (plain) and {share['ours']:.0%} (ours, counting the plain "
          "way's arithmetic)")  # fmt: skip
    print(f"  largest difference of predictions: {figures['largest_relative_difference']:.1e} of "
          "the largest value")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="only this one")
    parser.add_argument("--backbone")
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--peak-memory-of", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=("inference", "training"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = [CPU_CASE, CUDA_CASE] if torch.cuda.is_available() else [CPU_CASE]
    changed = {k: v for k in ("backbone", "size", "batch") if (v := getattr(options, k))}
    cases = [SimpleNamespace(**vars(case) | changed) for case in cases]
    if options.device:
        cases = [case for case in cases if case.device == options.device]
    if options.peak_memory_of:
        print_peak_memory(cases[0], options.peak_memory_of, options.mode)
        return
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    measured = {case.device: measure(case, options.repeats) for case in cases}
    for figures in measured.values():
        report(figures)
    if options.json:
        print(json.dumps(measured[cases[0].device] | {"devices": measured}))


if __name__ == "__main__":
    main()
