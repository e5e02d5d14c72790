"""What the network costs on a GPU, and how far its arithmetic there is from a processor's.

Run on any machine with one CUDA device; it takes about five minutes. Needs torch, torchvision, timm
and numpy; the part that feeds the network from a chip store needs the whole project, and says so
where that is not installed. Without a GPU everything runs at toy size on the CPU, so that the
script does not rot: those figures mean nothing.

Weights and images are random. The running statistics are those of the images, and the head gives
values with the labels' mean and standard deviation, so that differences are in the unit of a map.
A network of random weights amplifies rounding more than a trained one: look at float32 beside TF32,
not at the size of either.

Usage:
    python benchmarks/gpu.py [--json] [--only PART …] [--output FILE.json] [--markdown FILE.md]
"""

import argparse
import contextlib
import copy
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from biomassters.chips.bands import BANDS, MONTH_COUNT  # noqa: E402
from biomassters.inference.predict import VIEWS, apply_view  # noqa: E402
from biomassters.network.agb_net import AgbNet  # noqa: E402
from biomassters.network.folding import fold_batch_norm  # noqa: E402
from biomassters.training.losses import masked_rmse  # noqa: E402
from network import ReferenceScaling  # noqa: E402
from network import seconds as seconds_of_one  # noqa: E402

REFERENCE_WIDTHS = (384, 368, 352, 336, 320)
GMAC_A_CHIP = 366.5  # forward, 12 x 256 x 256, the winning network; counted layer by layer
RECIPE_CHIPS = 900 * 7_820 + 200 * 8_689  # passes over the training folds, then over all chips
TEST_CHIPS = 2_773
AGB_MEAN, AGB_SD = 63.5, 72.2  # of the challenge's labels, Mg/ha

LARGE = SimpleNamespace(
    device="cuda",
    backbone="tf_efficientnetv2_l", widths=REFERENCE_WIDTHS, size=256, batch=8, steps=8,
    small=("tf_efficientnetv2_s", (256, 192, 128, 96, 64), 192, 16, (0, 1)),
    compared=("mobilenetv3_small_050", "tf_efficientnetv2_b0"), compared_size=96,
    matrix=8192, copied=2**31, chips=64, workers=8, months=MONTH_COUNT,
)  # fmt: skip
TOY = SimpleNamespace(
    device="cpu",
    backbone="mobilenetv3_small_050", widths=(16, 12, 10, 8, 8), size=64, batch=2, steps=1,
    small=("mobilenetv3_small_050", (16, 12, 10, 8, 8), 64, 2, (0, 1)),
    compared=("mobilenetv3_small_050",), compared_size=64,
    matrix=256, copied=2**20, chips=4, workers=1, months=3,
)  # fmt: skip

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


def execution(**changes: Any) -> SimpleNamespace:
    """``ExecutionOptions``, without pydantic."""
    usual = {
        "channels_last": True, "subpixel": "auto", "winograd": "auto",
        "checkpoint_levels": (), "compile": False,
    }  # fmt: skip
    return SimpleNamespace(**usual | changes)


Images = tuple[Tensor, Tensor, int]


def network(backbone: str, widths: tuple[int, ...], seen: Images) -> AgbNet:
    """A network of random weights that predicts some images in the labels' unit."""
    device = seen[0].device.type
    torch.manual_seed(1)
    options = SimpleNamespace(
        backbone=backbone, pretrained=False, allow_random_start=False, decoder_channels=widths,
        scse=True,
    )  # fmt: skip
    made = AgbNet(options, ReferenceScaling()).to(device).configure(execution())
    norms = [one for one in made.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), arithmetic("float32", device):
        agb = made.train().forward_scaled(*seen)
        made.segmentation_head.weight.mul_(AGB_SD / agb.std())
        made.segmentation_head.bias.add_(AGB_MEAN - agb.mean() * AGB_SD / agb.std())
    for norm in norms:
        norm.momentum = 0.1
    return made.eval()


def images(chips: int, months: int, size: int, device: str) -> Images:
    """Scaled images of some chips, all months of each: what ``forward_scaled`` takes."""
    generator = torch.Generator().manual_seed(chips)
    fields = torch.rand(chips * months, len(BANDS), 8, 8, generator=generator)
    x = torch.nn.functional.interpolate(fields, size=(size, size), mode="bicubic")
    x += 0.05 * torch.randn(x.shape, generator=generator)
    return x.to(device), torch.arange(chips).repeat_interleave(months).to(device), chips


def few(seen: Images) -> Images:
    """Two images of two chips: float32 takes twice the memory of a step in bfloat16."""
    return seen[0][:4], torch.tensor([0, 0, 1, 1], device=seen[0].device), 2


@contextlib.contextmanager
def arithmetic(precision: str, device: str) -> Iterator[None]:
    """In which a GPU multiplies in a precision; float32 is in full, as the project has it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    half = precision in ("bfloat16", "float16")
    dtype = getattr(torch, precision) if half else None
    try:
        with torch.autocast(device, dtype=dtype, enabled=half):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def seconds(work: Callable[[], Any], case: SimpleNamespace, repeats: int = 5) -> float:
    """Median wall time of some work that has run once before."""
    times = [seconds_of_one(work, case.device) for _ in range(repeats + 1)]
    return statistics.median(times[1:])


def wait_for(case: SimpleNamespace) -> None:
    """Until the device has done what it was given."""
    if case.device == "cuda":
        torch.cuda.synchronize()


def fresh_memory(case: SimpleNamespace) -> None:
    """Count the peak from here."""
    if case.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(case: SimpleNamespace) -> float | None:
    """GPU memory that tensors took at most; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if case.device == "cuda" else None


# ---- The parts ---------------------------------------------------------------------------------


def measure_peaks(case: SimpleNamespace) -> dict[str, float]:
    """What the device reaches: a large matrix product on random data, and a large copy."""
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        left, right = (
            torch.randn(case.matrix, case.matrix, device=case.device, dtype=dtype) for _ in "ab"
        )
        with arithmetic("float32", case.device):
            took = seconds(lambda left=left, right=right: left @ right, case)
        found[f"{str(dtype)[6:]}_tflops"] = 2 * case.matrix**3 / took / 1e12
    source = torch.ones(case.copied, dtype=torch.uint8, device=case.device)
    took = seconds(lambda: source.clone(), case)
    return found | {"copy_gb_per_s": 2 * case.copied / took / 1e9}


def compare_small(case: SimpleNamespace) -> dict[str, Any]:
    """Maps and gradients of small networks against float64 on the CPU."""
    found: dict[str, Any] = {}
    for backbone in case.compared:
        x, chip_of_month, chips = images(2, case.months, case.compared_size, "cpu")
        made = network(backbone, case.widths, (x, chip_of_month, chips))
        exact = copy.deepcopy(made).double()
        here = copy.deepcopy(made).to(case.device)
        target = torch.rand(2, case.compared_size, case.compared_size) * 200
        with torch.no_grad():
            agb = exact.forward_scaled(x.double(), chip_of_month, chips)
        gradient = gradients(exact, x.double(), chip_of_month, target.double())
        for precision in PRECISIONS:
            with arithmetic(precision, case.device):
                arguments = x.to(case.device), chip_of_month.to(case.device)
                with torch.no_grad():
                    mine = here.eval().forward_scaled(*arguments, chips)
                slope = gradients(here, *arguments, target.to(case.device))
            found[f"{backbone}, {precision}"] = {
                **difference(mine, agb),
                "gradient_relative": float((slope.cpu() - gradient).norm() / gradient.norm()),
            }
    return found


def gradients(made: AgbNet, x: Tensor, chip_of_month: Tensor, target: Tensor) -> Tensor:
    """Of the loss by all parameters, float64; BatchNorm as in evaluation, so without its noise."""
    made.eval().zero_grad(set_to_none=True)
    agb = made.forward_scaled(x, chip_of_month, len(target))
    with torch.autocast(x.device.type, enabled=False):
        (
            masked_rmse(agb.squeeze(1), target).mean() * 64
        ).backward()  # float16's gradients would be 0
    slopes = [one.grad for one in made.parameters() if one.grad is not None]
    return torch.cat([slope.double().flatten() for slope in slopes]) / 64


def difference(mine: Tensor, reference: Tensor) -> dict[str, float]:
    """How far a map is from the reference's, whose standard deviation is that of labels."""
    off = mine.detach().cpu().double() - reference.cpu().double()
    return {
        "relative": float(off.norm() / reference.double().norm()),
        "largest_mg_per_ha": float(off.abs().max()),
        "mean_mg_per_ha": float(off.abs().mean()),
    }


def compare_large(case: SimpleNamespace) -> dict[str, Any]:
    """One chip's map by the winning network, against float32 on the CPU; folded and not."""
    x, chip_of_month, chips = images(1, case.months, case.size, "cpu")
    arguments = x.to(case.device), chip_of_month.to(case.device), chips
    made = network(case.backbone, case.widths, arguments)
    with torch.inference_mode():
        reference = copy.deepcopy(made).cpu().forward_scaled(x, chip_of_month, chips)
    found = {}
    for name, one in {"unfolded": made, "folded": fold_batch_norm(made)}.items():
        for precision in PRECISIONS:
            with torch.inference_mode(), arithmetic(precision, case.device):
                found[f"{name}, {precision}"] = difference(
                    one.forward_scaled(*arguments), reference
                )
    return found


TRAINED: dict[str, dict[str, Any]] = {
    "bfloat16": {},
    "bfloat16, no channels_last": {"channels_last": False},
    "bfloat16, cuDNN tries algorithms": {"tried": True},
    "bfloat16, levels 0 and 1 recomputed": {"checkpoint_levels": (0, 1)},
    "float16, scaled loss": {"precision": "float16"},
    "tf32": {"precision": "tf32"},
    "float32": {"precision": "float32"},
}


def train_large(case: SimpleNamespace) -> dict[str, Any]:
    """Training steps of the winning network, all twelve months of each chip."""
    found = {}
    for name, changes in TRAINED.items():
        found[name] = guarded(lambda changes=changes: steps(case, dict(changes)))
    return found


def train_compiled(case: SimpleNamespace) -> dict[str, Any]:
    """As the first of ``train_large``, compiled; the first step compiles."""
    return {"bfloat16, compiled": guarded(lambda: steps(case, {"compile": True}))}


def train_small_recipe(case: SimpleNamespace) -> dict[str, Any]:
    """Memory and speed of a step of ``conf/biomassters_small``."""
    backbone, widths, size, batch, levels = case.small
    recipe = SimpleNamespace(**vars(case) | {
        "backbone": backbone, "widths": widths, "size": size, "batch": batch
    })  # fmt: skip
    return {"biomassters_small": guarded(lambda: steps(recipe, {"checkpoint_levels": levels}))}


def steps(case: SimpleNamespace, changes: dict[str, Any]) -> dict[str, float | None]:
    """Speed and memory of training steps: forward, loss, backward, clipping, AdamW."""
    precision = changes.pop("precision", "bfloat16")
    torch.backends.cudnn.benchmark = changes.pop("tried", False)
    arguments = images(case.batch, case.months, case.size, case.device)
    made = network(case.backbone, case.widths, few(arguments))
    made.configure(execution(**changes)).train()
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(case.device, enabled=precision == "float16")
    target = torch.rand(case.batch, case.size, case.size, device=case.device) * 200
    fresh_memory(case)

    def step() -> None:
        with arithmetic(precision, case.device):
            agb = made.forward_scaled(*arguments)
        scaler.scale(masked_rmse(agb.squeeze(1), target).mean()).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(made.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    start = time.perf_counter()
    step()
    wait_for(case)
    first = time.perf_counter() - start
    took = seconds(step, case, case.steps)
    torch.backends.cudnn.benchmark = False
    return {
        "chips_per_s": case.batch / took,
        "step_ms": took * 1e3,
        "memory_gib": peak_gib(case),
        "first_step_s": first,
    }


def meet_new_shapes(case: SimpleNamespace) -> dict[str, Any]:
    """A step on a number of months that the process has not seen, and on the same once more.

    Month dropout changes the number at nearly every step.
    """
    found: dict[str, Any] = {}
    for channels_last in (True, False):
        x, chip_of_month, chips = images(case.batch, case.months, case.size, case.device)
        seen = x, chip_of_month, chips
        made = network(case.backbone, case.widths, few(seen)).train()
        made.configure(execution(channels_last=channels_last))
        times: dict[str, list[float]] = {"first_s": [], "again_s": []}
        for kept in range(len(x) - 1, len(x) - 4, -1):
            for figure in times:
                start = time.perf_counter()
                with arithmetic("bfloat16", case.device):
                    agb = made.forward_scaled(x[:kept], chip_of_month[:kept], chips)
                agb.float().square().mean().backward()
                wait_for(case)
                times[figure].append(time.perf_counter() - start)
        name = "channels_last" if channels_last else "no channels_last"
        found[name] = {figure: statistics.median(values) for figure, values in times.items()}
    return found


def predict_large(case: SimpleNamespace) -> dict[str, Any]:
    """Prediction by the winning network with four views, as ``inference`` does it."""
    arguments = images(case.batch, case.months, case.size, case.device)
    made = network(case.backbone, case.widths, few(arguments))
    folded = fold_batch_norm(made)
    found = {}
    for precision in PRECISIONS:
        for name, one in {"unfolded": made, "folded": folded}.items():
            fresh_memory(case)

            def predict(one: AgbNet = one) -> Tensor:
                x, *rest = arguments
                views = [
                    apply_view(one.forward_scaled(apply_view(x, view), *rest), view)
                    for view in VIEWS
                ]
                return torch.stack(views).float().mean(0)

            with torch.inference_mode(), arithmetic(precision, case.device):
                took = seconds(predict, case, 3)
            found[f"{precision}, {name}"] = {
                "chips_per_s": case.batch / took,
                "memory_gib": peak_gib(case),
            }
    return found


def feed_large(case: SimpleNamespace) -> dict[str, Any]:
    """The project's own step, fed from a chip store with augmentation: speed, and waiting."""
    try:
        import training_step as way
        from benchmark_chips import ArchiveChips, benchmark_chips
    except ImportError as error:
        return {"skipped": f"{error.name} is not installed here"}
    fed = SimpleNamespace(
        device=case.device, chips=case.chips, batch=case.batch, workers=case.workers,
        steps=case.steps * 2, warm_up=min(4, case.steps),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        way.write_archive(folder / "archive", benchmark_chips(fed.chips), total=fed.chips)
        chips = ArchiveChips(way.Archive.open(folder / "archive"))
        way.write_store(folder / "store", chips, codec="lz4")
        fresh_memory(case)
        took, waited = way.run_ours(fed, folder)
    return {
        "chips_per_s": fed.steps * fed.batch / took,
        "waiting_share": waited / took,
        "memory_gib": peak_gib(case),
    }


PARTS: dict[str, Callable[[SimpleNamespace], dict[str, Any]]] = {
    "peaks": measure_peaks,
    "small_against_float64": compare_small,
    "large_against_cpu": compare_large,
    "training": train_large,
    "new_number_of_months": meet_new_shapes,
    "small_recipe": train_small_recipe,
    "prediction": predict_large,
    "fed_from_a_store": feed_large,
    "compiled": train_compiled,
}
OWN_PROCESS = "compiled"  # a compiler may take longer than anybody waits


# ---- Putting it together -----------------------------------------------------------------------


def guarded(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, or why there are none: the other parts go on."""
    try:
        return work()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        return {"failed": f"{type(error).__name__}: {reason}"[:200]}


def in_own_process(part: str, limit_s: float) -> dict[str, Any]:
    """A part of which no more than some seconds are waited for."""
    command = [sys.executable, __file__, "--only", part, "--json", "--inside"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished in {limit_s:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": error.stderr.strip().splitlines()[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])[part]


def derived(found: dict[str, Any]) -> dict[str, float]:
    """What follows from the figures: share of the peak, days of the recipe."""
    result = {}
    step = found.get("training", {}).get("bfloat16", {}).get("chips_per_s")
    peak = found.get("peaks", {}).get("bfloat16_tflops")
    if step and peak:  # forward and backward are three times the forward pass
        result["share_of_measured_peak"] = 3 * 2 * GMAC_A_CHIP * step / 1e3 / peak
    fed = found.get("fed_from_a_store", {}).get("chips_per_s")
    if fed or step:
        result["recipe_days_extrapolated"] = RECIPE_CHIPS / (fed or step) / 86_400
    predicted = found.get("prediction", {}).get("bfloat16, folded", {}).get("chips_per_s")
    if predicted:
        result["test_split_minutes_extrapolated"] = TEST_CHIPS / predicted / 60
    return result


def machine(case: SimpleNamespace) -> dict[str, str]:
    """What it ran on, and when."""
    name = torch.cuda.get_device_name() if case.device == "cuda" else "CPU, toy size"
    return {
        "device": name,
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def table(found: dict[str, Any]) -> str:
    """All figures as Markdown."""
    lines = ["| part | case | figures |", "|---|---|---|"]
    for part, figures in found.items():
        cases = figures if any(isinstance(one, dict) for one in figures.values()) else {"": figures}
        for name, values in cases.items():
            shown = ", ".join(f"{key} {_short(value)}" for key, value in values.items())
            lines.append(f"| {part} | {name} | {shown} |")
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Measure the parts in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    parser.add_argument("--output", type=Path, help="write the JSON here, after every part")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--compile-limit-s", type=float, default=150.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    case = LARGE if torch.cuda.is_available() else TOY
    found: dict[str, Any] = {"machine": machine(case)}
    for part in arguments.only:
        start = time.perf_counter()
        if part == OWN_PROCESS and not arguments.inside:
            found[part] = in_own_process(part, arguments.compile_limit_s)
        else:
            found[part] = guarded(lambda part=part: PARTS[part](case))
        fresh_memory(case)
        print(f"{part}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        found["derived"] = derived(found)
        if arguments.output:
            arguments.output.write_text(json.dumps(found, indent=1))
    if not arguments.inside:
        print(table(found))
    if arguments.markdown:
        arguments.markdown.write_text(table(found))
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
