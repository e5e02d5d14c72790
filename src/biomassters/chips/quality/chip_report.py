"""One chip's row of the chip table: what it has, lacks, and is good for."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pydantic import Field

from biomassters.chips.archive.archive import Archive
from biomassters.chips.bands import MONTH_COUNT, S1_LEAST_DB
from biomassters.chips.chip import Chip
from biomassters.chips.pixel_checks import cloudy
from biomassters.io.raster_spec import DamagedFileError, describe
from biomassters.options import Options

COLUMNS = (
    *("chip_id", "split", "height", "width", "s1_months", "s2_months"),
    *("s1_nodata_fraction", "s2_zero_fraction", "s2_cloud_fraction"),
    *("agb_mean_mg_per_ha", "agb_sd_mg_per_ha", "agb_min_mg_per_ha", "agb_max_mg_per_ha"),
    *("missing_files", "damaged_files", "problem", "usable"),
)


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


@dataclass(frozen=True, eq=False)
class ChipReport:
    """What reading one chip showed.

    Attributes:
        chip: The chip without its damaged files.
        damage: What is wrong with them.
        incomplete: What it lacks of the images that the metadata list, as a sentence, or "".
        row: Its row of the chip table.
    """

    chip: Chip
    damage: tuple[DamagedFileError, ...]
    incomplete: str
    row: dict[str, Any]


def inspect_chip(
    archive: Archive,
    chip_id: str,
    options: InspectionOptions,
    known_damage: Mapping[str, str] = MappingProxyType({}),
) -> ChipReport:
    """Reads one chip and judges it.

    Args:
        archive: The archive.
        chip_id: Which chip.
        options: What is good enough.
        known_damage: What verification found wrong, by file name; those files aren't read.
    """
    damage = [DamagedFileError(name, reason) for name, reason in known_damage.items()]
    chip = archive.read_chip(chip_id, skip=known_damage, on_damage=damage.append)
    missing = [name for name in archive.missing_files(chip_id) if name not in known_damage]
    incomplete = _incomplete(archive, chip_id, known_damage)
    problem, usable = _judge(chip, damage, incomplete, options)
    height, width = chip.shape
    row = {
        "chip_id": chip_id,
        "split": chip.split,
        "height": height,
        "width": width,
        **_image_facts(chip),
        **_label_facts(chip),
        "missing_files": missing,
        "damaged_files": sorted(error.name for error in damage),
        "problem": problem,
        "usable": usable,
    }
    assert tuple(row) == COLUMNS
    return ChipReport(chip, tuple(damage), incomplete, row)


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
    s1_months, s2_months = (np.flatnonzero(column).tolist() for column in chip.present.T)
    nodata, zero, cloud = np.full((3, MONTH_COUNT), np.nan)
    for month in s1_months:
        nodata[month] = np.mean(chip.s1_db[month] < S1_LEAST_DB)
    for month in s2_months:
        zero[month] = 1 - np.mean(chip.s2_valid(month))
        cloud[month] = np.mean(cloudy(chip.s2[month, -1]))
    return {
        "s1_months": s1_months,
        "s2_months": s2_months,
        "s1_nodata_fraction": nodata.tolist(),
        "s2_zero_fraction": zero.tolist(),
        "s2_cloud_fraction": cloud.tolist(),
    }


def _label_facts(chip: Chip) -> dict[str, float]:
    label = chip.agb_mg_per_ha
    if label is None:
        facts = dict.fromkeys(("mean", "sd", "min", "max"), np.nan)
    else:
        facts = {"mean": label.mean(dtype=np.float64), "sd": label.std(dtype=np.float64)}
        facts |= {"min": label.min(), "max": label.max()}
    return {f"agb_{name}_mg_per_ha": float(value) for name, value in facts.items()}
