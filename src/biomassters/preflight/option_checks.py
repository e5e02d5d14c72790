"""Options against what they will meet: timm's backbones, this machine's devices, the folds.

Torch, timm and Dask take seconds to import, so that a check imports what it calls only where the
options leave it something to look at.
"""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kedro.io import MemoryDataset

from biomassters.errors import BadInputError
from biomassters.messages import installation, listed, shown_path
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.sweep.options import SweepOptions, sweep_faults
from biomassters.preflight.planned_run import PlannedRun
from biomassters.simulation.options import SimulationOptions
from biomassters.submission.check import archive_suffix
from biomassters.training.options import TrainingOptions

_ALWAYS_THERE = ("auto", "cpu")
_MODEL = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)


def check_runner(run: PlannedRun) -> Iterator[str]:
    """Nothing is handed on in memory where ParallelRunner gives every node a process of its own."""
    if "ParallelRunner" not in run.runner:
        return
    handed_on = run.pipeline.all_outputs() & run.pipeline.all_inputs()
    in_memory = sorted(name for name in handed_on if isinstance(run.dataset(name), MemoryDataset))
    if in_memory:
        yield (
            f"ParallelRunner can't hand on {listed(in_memory)}, which stays in the memory of one "
            "process: leave --runner out, or take ThreadRunner."
        )


def check_folds(run: PlannedRun) -> Iterator[str]:
    """The folds to be held out are among those that are made, or that were made before."""
    training: TrainingOptions | None = run.options("training")
    if training is None or not training.folds or not run.takes("folds"):
        return
    made = run.options("data_engineering") if run.makes("folds") else None
    if made is not None:
        count, source = made.folds.count, "data_engineering.folds.count"
    else:
        path = run.path("folds")
        if path is None or not path.is_file():
            return
        import pandas as pd

        found = pd.read_parquet(path, columns=["fold"])["fold"]
        if found.empty:  # no usable label: the node that learns says it
            return
        count = int(found.max()) + 1
        source = f"{shown_path(path)}, which data_engineering made,"
    beyond = [fold for fold in training.folds if fold >= count]
    if beyond:
        kind = "fold" if len(beyond) == 1 else "folds"
        yield (
            f"training.folds names {kind} {listed(beyond)}, but by {source} there are {count}, "
            f"numbered 0 to {count - 1}: choose among these or make more."
        )


def check_crop(run: PlannedRun) -> Iterator[str]:
    """The training crop fits into the chips that are simulated in the same run."""
    training: TrainingOptions | None = run.options("training")
    simulation: SimulationOptions | None = run.options("simulation")
    if training is None or simulation is None or training.crop is None:
        return
    if training.crop > simulation.chip_size:
        yield (
            f"training.crop is {training.crop} pixels, but simulation.chip_size is "
            f"{simulation.chip_size}: lower the crop, or set it to null for whole chips."
        )


def check_submission_format(run: PlannedRun) -> Iterator[str]:
    """The submission's suffix is a format that it can be written in."""
    path = run.path("submission")
    if run.makes("submission") and path is not None:
        yield from (f"submission_format: {fault}" for fault in _refused(archive_suffix, path))


def check_backbone(run: PlannedRun) -> Iterator[str]:
    """The backbone is one of timm's and has five feature levels."""
    network: NetworkOptions | None = run.options("network")
    fault = None if network is None else backbone_fault(network.backbone)
    if fault is not None:
        yield f"network.backbone: {fault}"


@cache
def backbone_fault(backbone: str) -> str | None:
    """Why a network can't have this backbone.

    A name that occurs nowhere in timm's sources is refused without importing timm; the default
    one is known to fit, because tests hold it.
    """
    if backbone == NetworkOptions().backbone:
        return None
    if not occurs_in_timm(backbone):
        close = get_close_matches(backbone.partition(".")[0], _MODEL.findall(_timm_sources()), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them."
        return f"timm knows no backbone '{backbone}'; {hint}"

    import torch

    from biomassters.network.encoder import create_features, resolve_backbone

    def build() -> None:
        with torch.device("meta"):
            create_features(resolve_backbone(backbone), 1)

    return next(_refused(build), None)


def occurs_in_timm(backbone: str) -> bool:
    """Whether timm's models may hold a backbone of this name; False is sure."""
    architecture = backbone.partition(".")[0]
    return re.search(rf"\b{re.escape(architecture)}\b", _timm_sources()) is not None


@cache
def _timm_sources() -> str:
    """The text of timm's models; where timm lies is known without importing it."""
    spec = find_spec("timm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "models"
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py")))


def check_window(run: PlannedRun) -> Iterator[str]:
    """Crops, or chips simulated in the same run, train every tap of the backbone's kernels."""
    training: TrainingOptions | None = run.options("training")
    network: NetworkOptions | None = run.options("network")
    simulation: SimulationOptions | None = run.options("simulation")
    if training is None or network is None or simulation is None:
        return
    side = training.crop or simulation.chip_size
    known = NetworkOptions().backbone, SimulationOptions().chip_size
    # The defaults fit, which a test sees: torch needn't be imported before the first node.
    if (network.backbone, side) == known or backbone_fault(network.backbone):
        return
    from biomassters.network import window

    what = "training.crop is" if training.crop else "simulation.chip_size is"
    yield from _refused(window.check_window, network.backbone, side, what)


def check_pretrained_weights(run: PlannedRun) -> Iterator[str]:
    """Weights to start from can be had: days of training from random ones are no replacement."""
    network: NetworkOptions | None = run.options("network")
    if network is None or not network.pretrained or network.allow_random_start:
        return
    training: TrainingOptions | None = run.options("training")
    if training is not None and training.start_from_weights is not None:
        return
    if _trains(run) and backbone_fault(network.backbone) is None:
        from biomassters.network.encoder import check_pretrained

        yield from _refused(check_pretrained, network.backbone)


def check_devices(run: PlannedRun) -> Iterator[str]:
    """This machine has the devices of training and inference, and enough of them."""
    training: TrainingOptions | None = run.options("training")
    if training is not None and _trains(run):
        simple = training.world_size == 1 and not training.sync_batch_norm
        if not simple or training.device not in _ALWAYS_THERE:
            from biomassters.training import train

            for fault in _refused(train.check_devices, training):
                yield f"training.{fault}" if fault.startswith("device:") else fault
    inference = run.options("inference")
    # The node that only reports these options needs no device.
    predicts = any(
        "params:inference" in node.inputs and node.outputs != ["recipe"]
        for node in run.pipeline.nodes
    )
    if inference is not None and inference.device not in _ALWAYS_THERE and predicts:
        from biomassters.inference.device import choose_device

        yield from (f"inference.{fault}" for fault in _refused(choose_device, inference.device))


def check_plots_extra(run: PlannedRun) -> Iterator[str]:
    """What plots need beyond a first install is there."""
    wanted = ("exactextract", "geopandas", "pyogrio", "shapely", "statsmodels")
    missing = [name for name in wanted if find_spec(name) is None]
    if missing and run.options("plots") is not None:
        yield (f"Field plots need {listed(missing)}: install them with {installation('plots')}.")


def check_sweep(run: PlannedRun) -> Iterator[str]:
    """A sweep varies what there is, over ranges that fit, and Optuna is there."""
    sweep: SweepOptions | None = run.options("sweep")
    network, training = run.options("network"), run.options("training")
    if sweep is None or network is None or training is None:
        return
    if find_spec("optuna") is None:
        yield f"A sweep needs optuna: install it with {installation('sweep')}."
    yield from sweep_faults(sweep, network, training)
    for parameter in sweep.parameters:
        if parameter.name == "network.backbone":
            yield from filter(None, map(backbone_fault, map(str, parameter.choices)))


def check_scheduler(run: PlannedRun) -> Iterator[str]:
    """The Dask scheduler answers, if the run is to use one."""
    dask = run.options("dask")
    if dask is not None and dask.scheduler_address is not None:
        from biomassters.workers.cluster import require_scheduler

        yield from _refused(require_scheduler, dask)


def _trains(run: PlannedRun) -> bool:
    return any(map(run.makes, ("fit_weights", "final_weights", "sweep_study")))


def _refused(check: Callable[..., Any], *arguments: Any) -> Iterator[str]:
    """What a check says of bad input; nothing if it passes."""
    try:
        check(*arguments)
    except BadInputError as error:
        yield str(error)
