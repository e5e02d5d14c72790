"""From images to a finished map: plan, prediction, assembly. Begin to read ``regions`` here.

``plan_region`` refuses what can't work before any work is done; ``predict_blocks`` (``predictor``)
does the work and resumes it; ``finish_map`` (``map_writer``) makes one GeoTIFF of it.
"""

import hashlib
import json
import logging
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biomassters import __version__
from biomassters.chips.provenance import UNKNOWN, Provenance, map_tags
from biomassters.errors import BadInputError
from biomassters.inference.options import InferenceOptions
from biomassters.io.files import require_space
from biomassters.messages import counted, redacted
from biomassters.network.starter import weights_file
from biomassters.regions.blocks import BlockFolder
from biomassters.regions.inputs.source import RegionSource
from biomassters.regions.map_summary import MapSummary
from biomassters.regions.map_writer import BANDS, map_bytes, map_pieces, write_cog
from biomassters.regions.options import CHIP_STEP_PIXELS, TITLE, MappingOptions
from biomassters.regions.tiling import Tiling
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.totals import CARBON_FRACTION
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Workers

if TYPE_CHECKING:  # torch takes seconds to import, so whatever has it is imported where it is used
    from biomassters.regions.predictor import PredictionTimes

log = logging.getLogger(__name__)
_REFERENCE_CHIP = 256  # BioMassters' chips, which the reference trains on whole
_BLOCK_BYTES = 4 + 1  # a pixel of a block: AGB, months


@dataclass(frozen=True)
class WeightsFiles:
    """Weights whose maps are averaged; picklable.

    Attributes:
        paths: The files.
        fingerprint: Of the weights; of a single file as calibration notes it.
        chip: Side of the chips that the first one was trained on.
        width: Of the first one's decoder, as ``AgbNet.width``.
        description: The first one's JSON: what it was trained on, and more.
    """

    paths: tuple[str, ...]
    fingerprint: str
    chip: int
    width: int
    description: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, paths: tuple[str, ...], first: str, ensemble: tuple[str, ...] = ()
    ) -> "WeightsFiles":
        """Look at weights files.

        Args:
            paths: The files of weights that belong together; the first one's chips are the map's.
            first: Fingerprint of these weights.
            ensemble: Further files.

        Raises:
            BadInputError: A file can't be read, or a description is missing or not one of ours.
        """
        from biomassters.network.weights import read_description

        every = (*paths, *ensemble)
        description, *_ = [read_description(path) for path in every]
        digests = {path: _file_digest(path) for path in ensemble}
        fingerprint = _fingerprint({"first": first, **digests}) if digests else first
        recipe = description.get("recipe") or {}
        chip = description.get("window") or recipe.get("crop") or description.get("chip_size")
        width = description["network"]["decoder_channels"][0]
        return cls(every, fingerprint, int(chip or _REFERENCE_CHIP), width, description)

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """What the first one's JSON says of its training chips."""
        return self.description.get("trained_on")

    def load(self) -> list[Any]:
        """The networks on the CPU, in evaluation mode."""
        from biomassters.network.weights import load_network

        return [load_network(path) for path in self.paths]


def _file_digest(path: str) -> str:
    try:
        with weights_file(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInputError(f"{path} can't be read ({error.strerror}).") from error


def _fingerprint(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class RegionPlan:
    """What is mapped, from what, with what, and to where."""

    source: RegionSource
    weights: WeightsFiles
    tiling: Tiling
    options: MappingOptions
    inference: InferenceOptions
    path: Path

    def provenance(self) -> Provenance:
        """How the map is made."""
        from biomassters.inference.device import choose_device, precision_used

        device = choose_device(self.inference.device)
        return Provenance(
            trained_on=self.weights.trained_on,
            views=self.inference.views,
            clip_negative=self.inference.clip_negative,
            precision=precision_used(device, self.inference.precision, self.weights.width),
            networks=len(self.weights.paths),
            chip_pixels=max(self.tiling.rows.chip, self.tiling.columns.chip),
        )

    @property
    def job(self) -> str:
        """Fingerprint of everything that the blocks depend on."""
        source = self.source
        return _fingerprint(
            {
                "version": __version__,
                "images": source.identity(),
                "grid": [source.grid.crs.to_wkt(), tuple(source.grid.transform), source.grid.shape],
                "area": None if source.area is None else source.area.identity(),
                "weights": self.weights.fingerprint,
                "tiling": astuple(self.tiling),
                "views": self.inference.views,
                "precision": self.inference.precision,
            }
        )


def plan_region(
    source: RegionSource,
    weights: WeightsFiles,
    path: Path,
    options: MappingOptions,
    inference: InferenceOptions,
) -> RegionPlan:
    """Settle how a region is mapped, before any work is done.

    Raises:
        BadInputError: The map exists already or can't lie there, or the weights are wrong on
            chips of that size.
    """
    from biomassters.network.window import check_trained_window

    if path.is_dir():
        raise BadInputError(
            f"{path} is a folder: give the map a name in it, as in 'region_map={path / 'agb.tif'}'."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"No map can be written to {path.parent} ({error.strerror}): choose another place with "
            "'--params region_map=PATH'."
        ) from error
    if path.exists() and not options.overwrite:
        raise BadInputError(
            f"{path} exists: add '--params mapping.overwrite=true' to replace it, or choose "
            "another place with 'region_map=PATH'."
        )
    chip = options.chip or -(-weights.chip // CHIP_STEP_PIXELS) * CHIP_STEP_PIXELS
    check_trained_window(weights.description, chip, weights.paths[0])
    tiling = Tiling.of(source.grid.shape, chip, options.overlap, options.window)
    log.info(
        "%d x %d pixels of %g m, %s, chips of %d x %d pixels.",
        *source.grid.shape, source.grid.pixel_size, counted(len(source.months), "month"),
        chip, chip,
    )  # fmt: skip
    return RegionPlan(source, weights, tiling, options, inference, path)


def predict_blocks(
    plan: RegionPlan, scratch: Path, dask: DaskOptions, *, progress: bool = True
) -> "PredictionTimes":
    """Predict every block of a region that isn't in the scratch folder yet.

    Raises:
        BadInputError: No room, another run, or images that can't be read.
    """
    from biomassters.regions.predictor import BlockTask, predict_region

    _check_space(plan, scratch)
    workers = _workers(dask, plan.options)
    task = BlockTask(
        plan.source, plan.weights.load, plan.tiling, plan.inference, plan.options.reader_threads,
        cores=None if workers is None else 1,
    )  # fmt: skip
    with BlockFolder(scratch, plan.job, plan.source.file_facts()) as folder:
        times = predict_region(task, folder, workers, progress=progress)
    log.info(
        "%s in %.0f s, %.0f %% of it in the network.",
        counted(times.chips, "chip"), times.wall_s, 100 * times.network_share,
    )  # fmt: skip
    return times


def _check_space(plan: RegionPlan, scratch: Path) -> None:
    """Refuse work that a disk has no room for."""
    extents = map(plan.tiling.extent, plan.tiling.blocks())
    blocks = sum(extent.height * extent.width * _BLOCK_BYTES for extent in extents)
    files = map_bytes(plan.source.grid)
    same = scratch.stat().st_dev == plan.path.parent.stat().st_dev
    require_space(scratch, blocks + (files if same else 0), "The map with its unfinished blocks")
    require_space(plan.path.parent, files, "The map")


def _workers(dask: DaskOptions, options: MappingOptions) -> Workers | None:
    """Processes that were asked for, or None: this process alone."""
    if dask.scheduler_address is None and not options.processes:
        return None
    from biomassters.workers.cluster import DaskWorkers  # takes a second to import

    local = {
        "workers": options.processes or dask.workers,
        "memory_per_worker_gb": options.memory_per_process_gb,
    }
    memory = "mapping.memory_per_process_gb"
    return DaskWorkers(dask.model_copy(update=local), items=("block", memory))


@dataclass(frozen=True)
class Calibration:
    """How wrong maps of some weights are.

    Attributes:
        intervals: Of pixels.
        errors: Of totals.
        note: Where the maps that it was calibrated on were made otherwise than this one.
    """

    intervals: IntervalModel
    errors: ErrorModel
    note: str = ""


def read_calibration(
    path: Path, weights_fingerprint: str, made_with: Provenance = UNKNOWN
) -> Calibration | None:
    """Read what the ``uncertainty`` pipeline wrote, for a map that is made in this way.

    Returns:
        None, with the reason in the log, where there is none for these weights and views. Where
        machine or data alone differ, the calibration with a note, which the log has too.

    Raises:
        BadInputError: The file is damaged.
    """
    reason = ""
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(
            IntervalModel.from_dict(models["intervals"]), ErrorModel.from_dict(models["errors"])
        )
        calibrated = Provenance.from_dict(models.get("made_with"))
        chosen = made_with.chosen_otherwise(calibrated)
        if models["weights_fingerprint"] != weights_fingerprint:
            reason = f"{path} was calibrated for other weights"
        elif chosen:
            reason = f"{path} was calibrated on maps made otherwise; this one has {chosen}"
    except FileNotFoundError:
        reason = f"there is no {path}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{path} is damaged ({error}): run '--pipelines uncertainty' again, or delete it to "
            "map without intervals."
        ) from error
    if reason:
        log.warning(
            "The map gets no intervals, and its lower and upper bands no data: %s; run "
            "'--pipelines uncertainty' for them.",
            reason,
        )
        return None
    note = made_with.found_otherwise(calibrated)
    if note:
        log.warning(
            "The intervals were calibrated on maps made otherwise (%s): how often they hold here "
            "was not measured.",
            note,
        )
    return replace(found, note=note)


def finish_map(
    plan: RegionPlan,
    scratch: Path,
    calibration: Calibration | None,
    carbon_fraction: float = CARBON_FRACTION,
) -> dict[str, Any]:
    """Put the blocks together, write the map, and delete the blocks.

    Returns:
        The summary, ready for JSON and without secrets.

    Raises:
        BadInputError: The map can't be written.
    """
    intervals = None if calibration is None else calibration.intervals
    errors = None if calibration is None else calibration.errors
    summary = MapSummary(plan.source.grid, carbon_fraction, errors)
    with BlockFolder(scratch, plan.job, plan.source.file_facts()) as folder:
        pieces = map_pieces(plan.tiling, folder, intervals, plan.inference.clip_negative)
        tags = _tags(plan, calibration)
        write_cog(plan.path, plan.source.grid, summary.watch(pieces), tags)
        folder.clear()
    return summary.result() | _facts(plan, errors)


def _facts(plan: RegionPlan, errors: ErrorModel | None) -> dict[str, Any]:
    """What the reader of a map must know of it."""
    first = plan.options.first_year
    caveat = "No intervals: there is no calibration for these weights."
    if errors is not None:
        caveat = (
            f"The intervals were calibrated on {errors.chips} held-out chips like those that the "
            "weights were trained on; in another forest, year or sensor they may be too narrow. "
            "Totals are corrected for the mean bias on these chips; the pixels of the map are not."
        )
    facts = {
        "title": TITLE,
        "images": plan.source.name,
        "images_simulated": plan.source.simulated,
        "year": None if first is None else f"September {first} - August {first + 1}",
        "weights": list(plan.weights.paths),
        "weights_fingerprint": plan.weights.fingerprint,
        "weights_trained_on": plan.weights.trained_on,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "caveat": caveat,
    }
    return dict(redacted(facts))


def _tags(plan: RegionPlan, calibration: Calibration | None) -> dict[str, str]:
    level, intervals = "none", "none: not calibrated for these weights, views and clipping"
    if calibration is not None:
        level = f"{calibration.intervals.level:g}"
        note = calibration.note and f"; calibrated on maps made otherwise ({calibration.note})"
        intervals = f"level {level}{note}"
    return {
        "TIFFTAG_IMAGEDESCRIPTION": "Forest aboveground biomass density from a year of Sentinel-1 "
        "and Sentinel-2",
        "TIFFTAG_SOFTWARE": f"biomassters {__version__}",
        "bands": ",".join(BANDS),
        "nodata": "NaN: no data, or outside the area",
        "interval_level": level,
        "months": ",".join(f"{month.month:02d}" for month in plan.source.months),
        "images_simulated": "yes" if plan.source.simulated else "no",
        "intervals": intervals,
        **map_tags(
            ", ".join(plan.weights.paths), plan.weights.fingerprint, plan.weights.trained_on
        ),
    }
