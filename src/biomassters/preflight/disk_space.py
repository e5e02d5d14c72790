"""Free disk against what the run will write, before the first byte is written.

Sizes are those of the finished files, worked out from options and from what lies there; only
what is sure to be needed counts, for a run that would fit must never be refused. Nodes look
again when they know more.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomassters.chips.bands import MONTH_COUNT, S1, S2
from biomassters.network.options import NetworkOptions
from biomassters.preflight.chip_counts import ChipCounts, expected_chips
from biomassters.preflight.option_checks import backbone_fault
from biomassters.preflight.planned_run import PlannedRun, shown
from biomassters.readable import listed, readable_bytes

DEFAULT_NETWORK_BYTES = 2_912_104
"""Of the default options, so that nothing has to be built to know it; a test compares."""

_FLOAT = 4
_MAP_BANDS = 4  # of regions.cog: the map, its bounds, the months
_OVERVIEWS = 4 / 3
# On average two of a chip's twelve Sentinel-2 months are missing.
_S2_MONTHS = 10


@dataclass(frozen=True)
class Need:
    """What a node will write.

    Attributes:
        purpose: For the message, as in ``packing 224 chips``.
        dataset: Whose place it is written to.
        bytes: How much.
    """

    purpose: str
    dataset: str
    bytes: float


def check_disk(run: PlannedRun) -> Iterator[str]:
    """Every disk has room for all that the run will write there."""
    if run.skips_finished:
        return
    disks: dict[int, list[tuple[Need, Path]]] = defaultdict(list)
    for need in needs(run):
        path = run.path(need.dataset)
        if path is not None:
            disks[_nearest(path).stat().st_dev].append((need, path))
    for found in disks.values():
        folder = _nearest(found[0][1])
        wanted, free = sum(need.bytes for need, _ in found), shutil.disk_usage(folder).free
        if wanted <= free:
            continue
        # Only now: counting what an interrupted or earlier run has left takes time.
        wanted = sum(max(0.0, need.bytes - _already_there(path)) for need, path in found)
        if wanted > free:
            parts = [f"{need.purpose} {readable_bytes(need.bytes)}" for need, _ in found]
            yield (
                f"The disk of {shown(folder)} has {readable_bytes(free)} free, but this run needs "
                f"about {readable_bytes(wanted)} there ({listed(parts)}): free some space, or set "
                "places on another disk."
            )


def needs(run: PlannedRun) -> list[Need]:
    """What the run's nodes will write, as far as it can be known now."""
    found = [*_of_region(run)]
    chips = expected_chips(run)
    if chips is not None:
        found += _of_chips(run, chips)
    if run.makes("fit_weights"):
        found += _of_training(run)
    return [need for need in found if need.bytes > 0]


def _of_chips(run: PlannedRun, chips: ChipCounts) -> Iterator[Need]:
    from biomassters.chips.store.writer import packed_bytes

    pixels = chips.height * chips.width
    if run.makes("raw_archive"):
        image_bytes = MONTH_COUNT * len(S1.bands) * _FLOAT + _S2_MONTHS * len(S2.bands) * 2
        size = pixels * (chips.count * image_bytes + chips.train * _FLOAT)
        yield Need(f"simulating {chips.count:,} chips", "raw_archive", size)
    data_engineering = run.options("data_engineering")
    if run.makes("chip_store") and data_engineering is not None:
        size = packed_bytes(chips.count, (chips.height, chips.width), data_engineering.codec)
        yield Need(f"packing {chips.count:,} chips", "chip_store", size)
    map_bytes = pixels * _FLOAT
    if run.makes("test_predictions"):
        yield Need(f"maps of {chips.test:,} test chips", "test_predictions", chips.test * map_bytes)
    if run.makes("test_bounds"):
        yield Need("their bounds", "test_bounds", 3 * chips.test * map_bytes)


def _of_training(run: PlannedRun) -> Iterator[Need]:
    network, training = run.options("network"), run.options("training")
    if network is None or training is None:
        return
    networks = max(1, len(training.folds))
    one = network_bytes(network)
    copies = 4 + (training.ema_decay is not None)  # as TrainingState.checkpoint_bytes
    kept = training.checkpoints_kept + 1  # the newest is written before the oldest goes
    yield Need("checkpoints", "fit.checkpoints", networks * kept * copies * one)
    yield Need("weights", "fit_weights", 2 * networks * one)


def _of_region(run: PlannedRun) -> Iterator[Need]:
    region = run.options("region_simulation")
    if region is None:
        return
    pixels = region.width * region.height
    month = len(S1.bands) * 2 + (not region.missing_images) * len(S2.bands) * 2
    yield Need(
        "simulating the region", "simulated_region", pixels * (len(region.months) * month + 4)
    )
    if run.makes("region_summary"):
        size = pixels * _MAP_BANDS * _FLOAT * (1 + _OVERVIEWS)
        yield Need("the map of the region", "region_map", size)


def network_bytes(options: NetworkOptions) -> int:
    """How large a network's weights are; other ones than the default are built, without memory."""
    standard = NetworkOptions()
    if (options.backbone, options.decoder_channels, options.scse) == (
        standard.backbone, standard.decoder_channels, standard.scse,
    ):  # fmt: skip
        return DEFAULT_NETWORK_BYTES
    if backbone_fault(options.backbone) is not None:
        return 0  # the check of the backbone says it
    return _built_bytes(options)


def _built_bytes(options: NetworkOptions) -> int:
    import torch

    from biomassters.chips.scaling import BandScaling
    from biomassters.network.agb_net import AgbNet

    plain = options.model_copy(update={"pretrained": False})
    with torch.device("meta"):
        state: dict[str, Any] = AgbNet(plain, BandScaling.reference()).state_dict()
    return sum(value.nbytes for value in state.values())


def _nearest(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _already_there(path: Path) -> int:
    """Bytes of an earlier run at a place and in the unfinished folders beside it."""
    beside = path.parent.glob(f"*{path.name}*") if path.parent.is_dir() else ()
    return sum(_size(place) for place in beside)


def _size(place: Path) -> int:
    if place.is_file():
        return place.stat().st_size
    return sum(
        os.lstat(f"{folder}/{name}").st_size
        for folder, _, names in os.walk(place)
        for name in names
    )
