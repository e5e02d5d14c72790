"""From images to a finished map: plan, prediction, assembly."""

import logging
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from biomassters import __version__
from biomassters.chips.provenance import Provenance, map_tags
from biomassters.errors import BadInputError
from biomassters.inference.options import InferenceOptions
from biomassters.io.files import require_space
from biomassters.regions.assembly import BANDS, Assembly
from biomassters.regions.block_folder import BlockFolder
from biomassters.regions.block_task import BlockTask
from biomassters.regions.calibration import Calibration
from biomassters.regions.cog import BYTES_PER_PIXEL, write_cog
from biomassters.regions.inputs.source import RegionSource
from biomassters.regions.lattice import Axis, Lattice
from biomassters.regions.map_facts import map_facts
from biomassters.regions.networks import WeightsFiles, job_fingerprint
from biomassters.regions.options import CHIP_STEP_PIXELS, MappingOptions
from biomassters.regions.region_prediction import (
    PredictionTimes,
    predict_region,
    process_workers,
)
from biomassters.regions.summary import MapSummary
from biomassters.uncertainty.totals import CARBON_FRACTION
from biomassters.workers.options import DaskOptions

log = logging.getLogger(__name__)
_OVERVIEWS = 4 / 3  # a pyramid of halves
_BLOCK_BYTES = 2 * 4 + 1  # a pixel of a block: AGB, spread, months


@dataclass(frozen=True)
class RegionPlan:
    """What is mapped, from what, with what, and to where.

    Attributes:
        source: The images.
        weights: The networks.
        lattice: Where chips lie.
        options: Of the map.
        inference: How the networks are used.
        path: The map to write.
    """

    source: RegionSource
    weights: WeightsFiles
    lattice: Lattice
    options: MappingOptions
    inference: InferenceOptions
    path: Path

    @property
    def views(self) -> int:
        """Maps that are averaged."""
        return len(self.inference.views) * len(self.weights.paths)

    def provenance(self) -> Provenance:
        """How the map is made."""
        from biomassters.inference.device import choose_device, precision_used

        device = choose_device(self.inference.device)
        return Provenance(
            trained_on=self.weights.description.get("trained_on"),
            views=self.inference.views,
            clip_negative=self.inference.clip_negative,
            precision=precision_used(device, self.inference.precision),
            networks=len(self.weights.paths),
            chip_pixels=max(self.lattice.rows.chip, self.lattice.columns.chip),
        )

    @property
    def job(self) -> str:
        """Fingerprint of everything that the blocks depend on."""
        source, lattice = self.source, self.lattice
        return job_fingerprint(
            {
                "version": __version__,
                "images": source.identity(),
                "grid": [source.grid.crs.to_wkt(), tuple(source.grid.transform), source.grid.shape],
                "area": None if source.area is None else source.area.identity(),
                "weights": self.weights.fingerprint,
                "lattice": [astuple(axis) for axis in (lattice.rows, lattice.columns)],
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
        BadInputError: The map exists already, or can't lie there.
    """
    from biomassters.network.window import check_trained_window

    _check_place(path)
    if path.exists() and not options.overwrite:
        raise BadInputError(
            f"{path} exists: add '--params mapping.overwrite=true' to replace it, or choose "
            "another place with 'region_map=PATH'."
        )
    chip = options.chip or -(-weights.chip // CHIP_STEP_PIXELS) * CHIP_STEP_PIXELS
    check_trained_window(weights.description, chip, weights.paths[0])
    lattice = Lattice(
        *(Axis.of(size, chip, options.overlap, options.window) for size in source.grid.shape)
    )
    log.info(
        "%d x %d pixels of %g m, %d months, chips of %d x %d pixels.",
        *source.grid.shape, source.grid.pixel_size, len(source.months), chip, chip,
    )  # fmt: skip
    return RegionPlan(source, weights, lattice, options, inference, path)


def _check_place(path: Path) -> None:
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


def check_space(plan: RegionPlan, scratch: Path) -> None:
    """Refuse work that a disk has no room for.

    Raises:
        BadInputError: Too little is free for the blocks or for the map.
    """
    pixels = plan.source.grid.height * plan.source.grid.width
    blocks = sum(
        extent.height * extent.width * _BLOCK_BYTES
        for extent in map(plan.lattice.extent, plan.lattice.blocks())
    )
    files = int(pixels * BYTES_PER_PIXEL * (1 + _OVERVIEWS))
    same = scratch.stat().st_dev == plan.path.parent.stat().st_dev
    require_space(scratch, blocks + (files if same else 0), "The map with its unfinished blocks")
    require_space(plan.path.parent, files, "The map")


def predict_blocks(
    plan: RegionPlan, scratch: Path, dask: DaskOptions, *, progress: bool = True
) -> PredictionTimes:
    """Predict every block of a region that isn't in the scratch folder yet.

    Raises:
        BadInputError: No room, another run, or images that can't be read.
    """
    check_space(plan, scratch)
    options = plan.options
    workers = process_workers(dask, options.processes, options.memory_per_process_gb)
    task = BlockTask(
        plan.source, plan.weights, plan.lattice, plan.inference, options.reader_threads,
        cores=None if workers is None else 1,
    )  # fmt: skip
    with BlockFolder(scratch, plan.job, plan.source.file_facts()) as folder:
        times = predict_region(task, folder, workers, progress=progress)
    log.info(
        "%d chips in %.0f s, %.0f %% of it in the network.",
        times.chips, times.wall_s, 100 * times.network_share,
    )  # fmt: skip
    return times


def finish_map(
    plan: RegionPlan,
    scratch: Path,
    calibration: Calibration | None,
    carbon_fraction: float = CARBON_FRACTION,
) -> dict[str, Any]:
    """Put the blocks together, write the map, and delete the blocks.

    Args:
        plan: What was mapped.
        scratch: Where the blocks lie.
        calibration: How wrong maps of these weights are, if that is known.
        carbon_fraction: Mg of carbon in a Mg of biomass.

    Returns:
        The summary, ready for JSON.

    Raises:
        BadInputError: The map can't be written.
    """
    errors = None if calibration is None else calibration.errors
    summary = MapSummary(plan.source.grid, carbon_fraction, errors)
    with BlockFolder(scratch, plan.job, plan.source.file_facts()) as folder:
        intervals = None if calibration is None else calibration.intervals
        clip = plan.inference.clip_negative
        assembly = Assembly(plan.lattice, folder, intervals, clip_negative=clip)
        pieces = summary.watch(assembly.pieces())
        write_cog(plan.path, plan.source.grid, pieces, _tags(plan, calibration))
        folder.clear()
    facts = map_facts(
        plan.source.name,
        plan.source.simulated,
        plan.options.first_year,
        plan.weights.paths,
        plan.weights.fingerprint,
        plan.weights.description.get("trained_on"),
        None if errors is None else errors.chips,
    )
    return summary.result() | facts


def _tags(plan: RegionPlan, calibration: Calibration | None) -> dict[str, str]:
    months = ",".join(f"{month.month:02d}" for month in plan.source.months)
    level = "none" if calibration is None else f"{calibration.intervals.level:g}"
    return {
        "TIFFTAG_IMAGEDESCRIPTION": "Forest aboveground biomass density from a year of Sentinel-1 "
        "and Sentinel-2",
        "TIFFTAG_SOFTWARE": f"biomassters {__version__}",
        "bands": ",".join(BANDS),
        "nodata": "NaN: no data, or outside the area",
        "interval_level": level,
        "months": months,
        "images_simulated": "yes" if plan.source.simulated else "no",
        "intervals": _interval_words(calibration),
        **map_tags(
            ", ".join(plan.weights.paths),
            plan.weights.fingerprint,
            plan.weights.description.get("trained_on"),
        ),
    }


def _interval_words(calibration: Calibration | None) -> str:
    if calibration is None:
        return "none: not calibrated for these weights, views and clipping"
    otherwise = f"; calibrated on maps made otherwise ({calibration.note})"
    return f"level {calibration.intervals.level:g}{otherwise if calibration.note else ''}"
