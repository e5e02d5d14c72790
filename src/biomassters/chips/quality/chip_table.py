"""Inspect an archive in one pass: the chip table, and the statistics of the bands.

``inspect_chip`` reads a chip and judges what it has, lacks, and is good for; ``inspect_archive``
does so with all of them. Which files are damaged in their bytes, ``verification`` has found before.
``summarise_data`` condenses the table for the report.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from biomassters.chips.archive.archive import Archive
from biomassters.chips.bands import MONTH_COUNT, MONTH_NAMES, SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.pixel_checks import cloudy
from biomassters.chips.quality.statistics import BandStatistics, LevelCounts
from biomassters.chips.quality.verification import known_damage
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import DamagedFileError, describe
from biomassters.options import Options
from biomassters.workers.pool import Threads, Workers

logger = logging.getLogger(__name__)

_SHOWN = 3  # names in a warning
_LISTED = 20  # faults in the report


class InspectionOptions(Options):
    """Which chips are good enough to use."""

    minimum_months: int = Field(
        2, ge=1, le=MONTH_COUNT, description="Months with an image that a chip must have"
    )
    on_damaged: Literal["leave_out_chip", "leave_out_image", "stop"] = Field(
        "leave_out_chip",
        description="What to do about a damaged file: leave out its chip, leave out the image "
        "alone (a damaged label still costs the chip), or stop",
    )
    on_incomplete: Literal["leave_out_chip", "use", "stop"] = Field(
        "leave_out_chip",
        description="What to do about a chip that lacks images which the metadata list, as after "
        "an interrupted download: leave it out, use it without them, or stop",
    )


def inspect_archive(
    archive: Archive,
    options: InspectionOptions,
    workers: Workers | None = None,
    verification: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, BandStatistics]:
    """Reads every file of an archive once; the results don't depend on who reads (None: threads).

    What ``verify_archive``'s table calls damaged is not read, and counts as damaged here too.

    Returns:
        The chip table, one row a chip by name, and the statistics of the bands over the usable
        training chips. Columns of the table: chip_id, split, height, width; crs and
        transform (a … f) of a chip that says where it lies, else ``""`` and []; for each sensor
        s1_months, s2_months (lists of months with an image, 0 is September); s1_nodata_fraction
        (share of values that are no data) or, where bands have data together, s2_zero_fraction
        (share of pixels never seen); s2_cloud_fraction (share of pixels with a cloud probability
        above 50 %), each a list of 12, NaN without an image; agb_mean_, agb_sd_, agb_min_ and
        agb_max_mg_per_ha, NaN without a label; missing_files, damaged_files (lists of names);
        problem (a sentence or ``""``); usable.

    Raises:
        BadInputError: If no chip is usable, or a file is damaged or a chip incomplete and that is
            to stop the run.
    """
    archive.shape  # noqa: B018 (found once, not by every worker)
    chip_ids = archive.chip_ids()
    damage = {} if verification is None else known_damage(verification)
    task = partial(inspect_chip, archive=archive, options=options, damage=damage)
    statistics = BandStatistics()
    results: dict[int, Inspection] = {}
    with Progress("inspecting chips", len(chip_ids)) as bar:
        for number, inspection in (workers or Threads()).each(task, chip_ids):
            if inspection.levels is not None:
                statistics.add(inspection.levels)
            results[number] = inspection._replace(levels=None)
            bar.update()
    inspections = [results[number] for number in range(len(chip_ids))]
    table = pd.DataFrame([inspection.row for inspection in inspections])
    _tell_damage(archive, inspections, options, table)
    _tell_incomplete(archive, inspections, options)
    if not table["usable"].any():
        raise BadInputError(
            f"{archive.root} has no usable chip among its {len(table)} ({chip_ids[0]}: "
            f"{table['problem'][0].rstrip('.')}): complete the archive or relax the inspection "
            "options."
        )
    return table, statistics


def _tell_damage(
    archive: Archive,
    inspections: Sequence["Inspection"],
    options: InspectionOptions,
    table: pd.DataFrame,
) -> None:
    damage = [error for inspection in inspections for error in inspection.damage]
    if not damage:
        return
    if options.on_damaged == "stop":
        raise BadInputError(
            f"{describe(damage[0].path, damage)}: fetch what is damaged again, or set on_damaged "
            "to leave_out_chip or leave_out_image."
        )
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


def _tell_incomplete(
    archive: Archive, inspections: Sequence["Inspection"], options: InspectionOptions
) -> None:
    incomplete = [inspection for inspection in inspections if inspection.incomplete]
    if not incomplete:
        return
    first = incomplete[0]
    found = (
        f"{archive.root} is incomplete: {len(incomplete)} of {len(inspections)} chips lack images "
        f"that its metadata list ({first.row['chip_id']}: {first.incomplete.rstrip('.')})"
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


class Inspection(NamedTuple):
    """What reading one chip showed: some hundred kilobytes from a worker, not its pixels."""

    row: dict[str, Any]  # its row of the chip table
    damage: tuple[DamagedFileError, ...]  # what is wrong with its files
    incomplete: str  # what it lacks of the images that the metadata list, as a sentence, or ""
    levels: LevelCounts | None  # its pixels by band and level, of a usable training chip


def inspect_chip(
    chip_id: str,
    archive: Archive,
    options: InspectionOptions,
    damage: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Inspection:
    """Reads one chip, judges it and counts its pixels; runs on a worker.

    ``damage`` is what verification found wrong, by chip and file name; those files aren't read.
    """
    known = damage.get(chip_id, {})
    found = [DamagedFileError(name, reason) for name, reason in known.items()]
    chip = archive.read_chip(chip_id, skip=known, on_damage=found.append)
    incomplete = _incomplete(archive, chip_id, known)
    problem, usable = _judge(chip, found, incomplete, options)
    height, width = chip.shape
    row = {
        "chip_id": chip_id,
        "split": chip.split,
        "height": height,
        "width": width,
        "crs": "" if chip.georeference is None else chip.georeference.crs,
        "transform": [] if chip.georeference is None else list(chip.georeference.transform),
        **_image_facts(chip),
        **_label_facts(chip),
        "missing_files": [name for name in archive.missing_files(chip_id) if name not in known],
        "damaged_files": sorted(error.name for error in found),
        "problem": problem,
        "usable": usable,
    }
    levels = None
    if usable and chip.split == "train":
        statistics = BandStatistics()
        statistics.update(chip)
        levels = statistics.occupied()
    return Inspection(row, tuple(found), incomplete, levels)


def _incomplete(archive: Archive, chip_id: str, known_damage: Mapping[str, str]) -> str:
    """A sentence on the listed images that are not there ("" if all are).

    What verification moved to quarantine is damaged, not missing.
    """
    lacking = [name for name in archive.undelivered_images(chip_id) if name not in known_damage]
    if not lacking:
        return ""
    listed = archive.listed_images(chip_id)
    return (
        f"It is incomplete: {len(lacking)} of the {listed} images that the metadata list are not "
        f"there (the first is {lacking[0]})."
    )


def _judge(
    chip: Chip, damage: list[DamagedFileError], incomplete: str, options: InspectionOptions
) -> tuple[str, bool]:
    """A sentence on what is wrong ("" if nothing is), and whether the chip is usable."""
    months = int(chip.month_mask.sum())
    unlabelled = chip.split == "train" and chip.agb_mg_per_ha is None
    usable = not unlabelled and months >= options.minimum_months
    if incomplete:
        usable &= options.on_incomplete == "use"
    if damage:
        usable &= options.on_damaged == "leave_out_image"
        return f"{describe(damage[0].name, damage)}.", usable
    if incomplete:
        return incomplete, usable
    if unlabelled:
        return "It is a training chip without a label.", usable
    if not usable:
        return f"It has images of {months} of the {options.minimum_months} months needed.", usable
    return "", usable


def _image_facts(chip: Chip) -> dict[str, Any]:
    facts: dict[str, Any] = {
        f"{sensor.name}_months": np.flatnonzero(chip.present[:, sensor.column]).tolist()
        for sensor in SENSORS
    }
    for sensor in SENSORS:
        name = f"{sensor.name}_{'zero' if sensor.floor is None else 'nodata'}_fraction"
        empty = np.full(MONTH_COUNT, np.nan)
        for month in facts[f"{sensor.name}_months"]:
            empty[month] = (
                1 - np.mean(chip.seen(sensor.name, month))
                if sensor.floor is None
                else np.mean(~chip.valid(sensor.name, month))
            )
        facts[name] = empty.tolist()
    cloud, probability = np.full(MONTH_COUNT, np.nan), chip.band("CLP")
    for month in facts["s2_months"]:
        cloud[month] = np.mean(cloudy(probability[month]))
    return facts | {"s2_cloud_fraction": cloud.tolist()}


def _label_facts(chip: Chip) -> dict[str, float]:
    label = chip.agb_mg_per_ha
    if label is None:
        facts = dict.fromkeys(("mean", "sd", "min", "max"), np.nan)
    else:
        label = label[~np.isnan(label)]  # of the labelled pixels
        facts = {"mean": label.mean(dtype=np.float64), "sd": label.std(dtype=np.float64)}
        facts |= {"min": label.min(), "max": label.max()}
    return {f"agb_{name}_mg_per_ha": float(value) for name, value in facts.items()}


# ---- The table condensed: how much data, of which months, and what is wrong


@dataclass(frozen=True)
class Listing:
    """How many faults there are, and the first of them: chip and what is wrong."""

    count: int
    shown: tuple[tuple[str, str], ...]

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.count - len(self.shown)


@dataclass(frozen=True)
class DataSummary:
    """What a report says about its data."""

    # One row a split: split, chips, usable, labelled, size, s2_months (as ``"5 to 12, median
    # 11"``), agb_mean (Mg/ha, or None).
    splits: tuple[dict[str, Any], ...]
    # One row a month from September: name, and by sensor the share of usable chips with an image.
    months: tuple[dict[str, Any], ...]
    missing: Listing  # chips with files that the metadata lists but the archive lacks
    damaged: Listing  # chips with files that can't be used
    left_out: Listing  # chips that are not used, and why

    @property
    def sensors(self) -> dict[str, str]:
        """What the sensors are called, by name."""
        return {sensor.name: sensor.title for sensor in SENSORS}


def summarise_data(chip_table: pd.DataFrame) -> DataSummary:
    """Condense the table of ``inspect_archive``."""
    is_usable = chip_table["usable"].astype(bool)
    usable = chip_table[is_usable]
    splits = chip_table.groupby("split", sort=False)
    return DataSummary(
        splits=tuple(_split_row(str(name), rows) for name, rows in splits),
        months=tuple(_month_row(month, usable) for month in range(MONTH_COUNT)),
        missing=_listing(chip_table, chip_table["missing_files"].map(", ".join)),
        damaged=_listing(chip_table, chip_table["damaged_files"].map(", ".join)),
        left_out=_listing(chip_table, chip_table["problem"].where(~is_usable, "")),
    )


def _split_row(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    months = rows["s2_months"].map(len)
    sizes = rows[["height", "width"]].drop_duplicates().astype(int)
    agb = rows["agb_mean_mg_per_ha"].mean()
    return {
        "split": name,
        "chips": len(rows),
        "usable": int(rows["usable"].sum()),
        "labelled": int(rows["agb_mean_mg_per_ha"].notna().sum()),
        "size": ", ".join(f"{height} × {width}" for height, width in sizes.to_numpy()),
        "s2_months": f"{months.min()} to {months.max()}, median {months.median():g}",
        "agb_mean": None if pd.isna(agb) else float(agb),
    }


def _month_row(month: int, usable: pd.DataFrame) -> dict[str, Any]:
    def share(months: pd.Series) -> float:
        return sum(month in listed for listed in months) / max(1, len(months))

    shares = {sensor.name: share(usable[f"{sensor.name}_months"]) for sensor in SENSORS}
    return {"name": MONTH_NAMES[month], **shares}


def _listing(chip_table: pd.DataFrame, faults: pd.Series) -> Listing:
    wrong = faults[faults != ""]
    chips = chip_table.loc[wrong.index, "chip_id"]
    pairs = zip(chips[:_LISTED], wrong[:_LISTED], strict=True)
    return Listing(len(wrong), tuple((str(chip), str(fault)) for chip, fault in pairs))
