"""Inspect a whole archive: the chip table and the band statistics in one pass."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from biomassters.chips.archive.archive import Archive
from biomassters.chips.quality.chip_report import COLUMNS, InspectionOptions, inspect_chip
from biomassters.chips.quality.statistics import BandStatistics, LevelCounts
from biomassters.chips.quality.verification import known_damage
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import DamagedFileError, describe
from biomassters.workers.pool import Threads, Workers

logger = logging.getLogger(__name__)

_SHOWN = 3  # names in a warning

__all__ = ["InspectionOptions", "inspect_archive", "inspect_chip"]


def inspect_archive(
    archive: Archive,
    options: InspectionOptions,
    progress: bool = True,
    workers: Workers | None = None,
    verification: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, BandStatistics]:
    """Reads every file of an archive once.

    Args:
        archive: The archive.
        options: Which chips are good enough.
        progress: Whether to show a progress bar.
        workers: Who reads; the results don't depend on it. None takes threads.
        verification: Table of ``verify_archive``; what it calls damaged is not read, and counts
            as damaged here too.

    Returns:
        The chip table, one row a chip by name, and the statistics of the bands over the usable
        training chips. Columns of the table: chip_id, split, height, width; s1_months,
        s2_months (lists of months with an image, 0 is September); s1_nodata_fraction (share of
        −9999), s2_zero_fraction (share of pixels that are 0 in every optical band),
        s2_cloud_fraction (share of pixels with a cloud probability above 50 %), each a list of
        12, NaN without an image; agb_mean_, agb_sd_, agb_min_ and agb_max_mg_per_ha, NaN
        without a label; missing_files, damaged_files (lists of names); problem (a sentence or
        ``""``); usable.

    Raises:
        BadInputError: If no chip is usable, or a file is damaged or a chip incomplete and that is
            to stop the run.
    """
    archive.shape  # noqa: B018 (found once, not by every worker)
    chip_ids = archive.chip_ids()
    task = InspectChip(archive, options, {} if verification is None else known_damage(verification))
    statistics = BandStatistics()
    results: dict[int, Inspected] = {}
    with Progress("inspecting chips", len(chip_ids), shown=progress) as bar:
        for number, inspected in (workers or Threads()).each(task, chip_ids):
            if inspected.levels is not None:
                statistics.add(inspected.levels)
            results[number] = inspected._replace(levels=None)
            bar.update()
    inspections = [results[number] for number in range(len(chip_ids))]
    damage = [error for inspected in inspections for error in inspected.damage]
    if damage and options.on_damaged == "stop":
        _stop(damage)
    incomplete = {
        str(inspected.row["chip_id"]): inspected.incomplete
        for inspected in inspections
        if inspected.incomplete
    }
    if incomplete:
        _say_incomplete(archive, incomplete, options)
    table = pd.DataFrame([inspected.row for inspected in inspections], columns=list(COLUMNS))
    if damage:
        _say_damaged(archive, damage, table)
    if not table["usable"].any():
        _refuse(archive, table)
    return table, statistics


class Inspected(NamedTuple):
    """What a worker sends back of a chip: some hundred kilobytes, not its pixels.

    Attributes:
        row: Its row of the chip table.
        damage: What is wrong with its files.
        incomplete: What it lacks of the listed images, as a sentence, or "".
        levels: Its pixels by band and level, of a usable training chip.
    """

    row: dict[str, Any]
    damage: tuple[DamagedFileError, ...]
    incomplete: str
    levels: LevelCounts | None


@dataclass(frozen=True)
class InspectChip:
    """Inspects one chip; runs on a worker.

    Attributes:
        archive: The archive.
        options: Which chips are good enough.
        damage: Reasons by chip and name of files known to be damaged.
    """

    archive: Archive
    options: InspectionOptions
    damage: Mapping[str, Mapping[str, str]]

    def __call__(self, chip_id: str) -> Inspected:
        """Reads the chip, judges it and counts its pixels."""
        known = self.damage.get(chip_id, {})
        report = inspect_chip(self.archive, chip_id, self.options, known)
        levels = None
        if report.row["usable"] and report.chip.split == "train":
            statistics = BandStatistics()
            statistics.update(report.chip)
            levels = statistics.occupied()
        return Inspected(report.row, report.damage, report.incomplete, levels)


def _stop(damage: list[DamagedFileError]) -> None:
    raise BadInputError(
        f"{describe(damage[0].path, damage)}: fetch what is damaged again, or set on_damaged to "
        "leave_out_chip or leave_out_image."
    )


def _say_damaged(archive: Archive, damage: list[DamagedFileError], table: pd.DataFrame) -> None:
    costs = table.loc[(table["damaged_files"].map(len) > 0) & ~table["usable"], "chip_id"]
    logger.warning(
        "%s holds %s; %s: fetch what is damaged again ('--pipelines acquisition', which keeps the "
        "old files in .quarantine), or choose with data_engineering.inspection.on_damaged what it "
        "costs.",
        archive.root,
        _some([error.name for error in damage], "damaged file"),
        f"{_some(list(costs), 'chip')} left out" if len(costs) else "no chip is left out",
    )


def _some(names: list[str], what: str) -> str:
    """How many, and the first of them: "5 chips (a, b, c ...)"."""
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'} ({shown})"


def _say_incomplete(
    archive: Archive, incomplete: Mapping[str, str], options: InspectionOptions
) -> None:
    chip_id, sentence = next(iter(incomplete.items()))
    found = (
        f"{archive.root} is incomplete: {len(incomplete)} of {len(archive.chip_ids())} chips lack "
        f"images that its metadata list ({chip_id}: {sentence.rstrip('.')})"
    )
    option = "data_engineering.inspection.on_incomplete"
    if options.on_incomplete == "stop":
        raise BadInputError(
            f"{found}: fetch them ('--pipelines acquisition'), or set {option} to leave_out_chip "
            "or use."
        )
    if options.on_incomplete == "use":
        logger.warning("%s; they are used without them (%s: use).", found, option)
    else:
        logger.warning(
            "%s; they are left out: fetch the images ('--pipelines acquisition') or set %s to use.",
            found,
            option,
        )


def _refuse(archive: Archive, table: pd.DataFrame) -> None:
    first = table.iloc[0]
    problem = first["problem"].rstrip(".")
    raise BadInputError(
        f"{archive.root} has no usable chip among its {len(table)} ({first['chip_id']}: "
        f"{problem}): complete the archive or relax the inspection options."
    )
