"""What the run will write: whether anything can be written there, and whether it fits.

Sizes are those of the finished files, worked out from options and from what lies there; only
what is sure to be needed counts, for a run that would fit must never be refused. Nodes look
again when they know more.
"""

import errno
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.datasets.paths import FolderDataset, PlaceDataset
from biomassters.messages import in_clone, listed, readable_bytes, shown_path
from biomassters.network.options import NetworkOptions
from biomassters.preflight.option_checks import backbone_fault
from biomassters.preflight.planned_run import PlannedRun, nearest_folder

DEFAULT_NETWORK_BYTES = 2_912_104
"""Of the default options, so that nothing has to be built to know it; a test compares."""

_WRITTEN_PLACES = ("region_map_place", "imagery_place", "change_map")
_RECORD = "run_record"
_FLOAT = 4
_MAP_BANDS = 4  # of regions.cog: the map, its bounds, the months
_OVERVIEWS = 4 / 3
# On average two of a chip's twelve Sentinel-2 months are missing.
_MONTHS_WITH_GAPS = 10


def check_outputs(run: PlannedRun) -> Iterator[str]:
    """Everything that the run will write can be written, tried with a file that vanishes."""
    refused: dict[str, list[Path]] = defaultdict(list)
    for place in sorted({_standing(path) for path in written_paths(run).values()}):
        reason = _refusal(place)
        if reason is not None:
            refused[reason].append(place)
    elsewhere = "a copy of the project" if in_clone() else "another folder"
    for reason, places in refused.items():
        if reason == os.strerror(errno.ENOSPC):  # how much is needed: check_disk says it
            continue
        names = [shown_path(place) for place in places[:3]]
        more = [f"{len(places) - 3} more"] if len(places) > 3 else []
        yield (
            f"Nothing can be written to {listed(names + more)} ({reason}): give yourself write "
            f"permission, or work in {elsewhere} (this is {Path.cwd()})."
        )


def written_paths(run: PlannedRun) -> dict[str, Path]:
    """Where the run's outputs lie, and the folders that its nodes fill, by dataset."""
    names = set(run.pipeline.all_outputs()) | {_RECORD}
    for node in run.pipeline.nodes:
        for name in node.inputs:
            dataset = run.dataset(name)
            place = isinstance(dataset, PlaceDataset) and name in _WRITTEN_PLACES
            if isinstance(dataset, FolderDataset) or place:
                names.add(name)
    found = {name: run.path(name) for name in sorted(names)}
    return {name: path for name, path in found.items() if path is not None}


def _standing(path: Path) -> Path:
    """The file itself, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _refusal(place: Path) -> str | None:
    """Why nothing can be written there."""
    try:
        if place.is_file():
            with place.open("ab"):
                pass
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror


@dataclass(frozen=True)
class _Need:
    purpose: str  # for the message, as in "packing 224 chips"
    dataset: str  # whose place it is written to
    bytes: float


def check_disk(run: PlannedRun) -> Iterator[str]:
    """Every disk has room for all that the run will write there."""
    if run.skips_finished:
        return
    disks: dict[int, list[tuple[_Need, Path]]] = defaultdict(list)
    for need in _needs(run):
        path = run.path(need.dataset)
        if path is not None and need.bytes > 0:
            disks[nearest_folder(path).stat().st_dev].append((need, path))
    for found in disks.values():
        folder = nearest_folder(found[0][1])
        wanted, free = sum(need.bytes for need, _ in found), shutil.disk_usage(folder).free
        if wanted <= free:
            continue
        # Only now: counting what an interrupted or earlier run has left takes time.
        wanted = sum(max(0.0, need.bytes - _already_there(path)) for need, path in found)
        if wanted > free:
            parts = [f"{need.purpose} {readable_bytes(need.bytes)}" for need, _ in found]
            yield (
                f"The disk of {shown_path(folder)} has {readable_bytes(free)} free, but this run "
                f"needs about {readable_bytes(wanted)} there ({listed(parts)}): free some space, "
                "or set places on another disk."
            )


def _needs(run: PlannedRun) -> Iterator[_Need]:
    """What the run's nodes will write, as far as it can be known now."""
    yield from _of_region(run)
    yield from _of_chips(run)
    yield from _of_training(run)


def _of_chips(run: PlannedRun) -> Iterator[_Need]:
    chips = run.chips()
    if chips is None:
        return
    from biomassters.chips.store.writer import packed_bytes

    pixels, count = chips.height * chips.width, chips.train + chips.test
    if run.makes("raw_archive"):
        image_bytes = sum(
            (MONTH_COUNT if sensor.every_month else _MONTHS_WITH_GAPS)
            * len(sensor.bands)
            * sensor.archive_dtype.itemsize
            for sensor in SENSORS
        )
        size = pixels * (count * image_bytes + chips.train * _FLOAT)
        yield _Need(f"simulating {count:,} chips", "raw_archive", size)
    data_engineering = run.options("data_engineering")
    if run.makes("chip_store") and data_engineering is not None:
        size = packed_bytes(count, (chips.height, chips.width), data_engineering.codec)
        yield _Need(f"packing {count:,} chips", "chip_store", size)
    map_bytes = pixels * _FLOAT
    if run.makes("test_predictions"):
        yield _Need(
            f"maps of {chips.test:,} test chips", "test_predictions", chips.test * map_bytes
        )
    if run.makes("test_bounds"):
        yield _Need("their bounds", "test_bounds", 3 * chips.test * map_bytes)


def _of_training(run: PlannedRun) -> Iterator[_Need]:
    network, training = run.options("network"), run.options("training")
    if network is None or training is None or not run.makes("fit_weights"):
        return
    networks, stages = max(1, len(training.folds)), len(training.active_stages())
    one = _network_bytes(network)
    copies = 4 + (training.ema_decay is not None)  # as TrainingState.checkpoint_bytes
    kept = training.checkpoints_kept + 1  # the newest is written before the oldest goes
    yield _Need("checkpoints", "checkpoints", stages * networks * kept * copies * one)
    yield _Need("weights", "fit_weights", 2 * networks * one)


def _of_region(run: PlannedRun) -> Iterator[_Need]:
    region = run.options("region_simulation")
    if region is None:
        return
    pixels = region.width * region.height
    month = sum(
        len(sensor.bands) * sensor.packed_dtype.itemsize
        for sensor in SENSORS
        if sensor.every_month or not region.missing_images
    )
    yield _Need("simulating the region", "region_images", pixels * (len(region.months) * month + 4))
    if run.makes("region_summary"):
        size = pixels * _MAP_BANDS * _FLOAT * (1 + _OVERVIEWS)
        yield _Need("the map of the region", "region_map_place", size)


def _network_bytes(options: NetworkOptions) -> int:
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
    import torch  # takes seconds

    from biomassters.chips.scaling import BandScaling
    from biomassters.network.agb_net import AgbNet

    plain = options.model_copy(update={"pretrained": False})
    with torch.device("meta"):
        state = AgbNet(plain, BandScaling.reference()).state_dict()
    return sum(value.nbytes for value in state.values())


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
