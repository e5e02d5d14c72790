"""Inspect a whole archive: the chip table and the band statistics in one pass."""

import os
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pandas as pd
from tqdm import tqdm

from biomassters.chips.archive import Archive
from biomassters.chips.chip_report import COLUMNS, InspectionOptions, inspect_chip
from biomassters.chips.damage import DamagedFileError, describe
from biomassters.chips.statistics import BandStatistics
from biomassters.errors import BadInputError

__all__ = ["InspectionOptions", "inspect_archive", "inspect_chip"]

_MOST_THREADS = 8


def inspect_archive(
    archive: Archive,
    options: InspectionOptions,
    progress: bool = True,
    threads: int | None = None,
) -> tuple[pd.DataFrame, BandStatistics]:
    """Reads every file of an archive once.

    Args:
        archive: The archive.
        options: Which chips are good enough.
        progress: Whether to show a progress bar.
        threads: Chips read at the same time; the results don't depend on it. None takes one
            a processor, at most 8.

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
        BadInputError: If no chip is usable, or a file is damaged and that is to stop the run.
    """
    archive.shape  # noqa: B018 (found once, not by every thread)
    chip_ids = archive.chip_ids()
    task = _Inspection(archive, options, threads or _threads())
    rows: list[dict[str, Any]] = []
    damage: list[DamagedFileError] = []
    with ThreadPoolExecutor(task.threads) as pool:
        results = pool.map(task, chip_ids)
        for row, faults in tqdm(
            results, "inspect chips", len(chip_ids), unit="chip", disable=not progress
        ):
            rows.append(row)
            damage += faults
    if damage and options.on_damaged == "stop":
        _stop(damage)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if not table["usable"].any():
        _refuse(archive, table)
    return table, task.statistics()


class _Inspection:
    """Inspects chips on several threads; each counts pixels into a histogram of its own."""

    def __init__(self, archive: Archive, options: InspectionOptions, threads: int) -> None:
        self._archive = archive
        self._options = options
        self.threads = threads
        self._parts: SimpleQueue[BandStatistics] = SimpleQueue()
        for _ in range(threads):
            self._parts.put(BandStatistics())

    def __call__(self, chip_id: str) -> tuple[dict[str, Any], tuple[DamagedFileError, ...]]:
        report = inspect_chip(self._archive, chip_id, self._options)
        if report.row["usable"] and report.chip.split == "train":
            part = self._parts.get()
            part.update(report.chip)
            self._parts.put(part)
        return report.row, report.damage

    def statistics(self) -> BandStatistics:
        total = BandStatistics()
        for _ in range(self.threads):
            total.merge(self._parts.get())
        return total


def _threads() -> int:
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    return min(processors or 1, _MOST_THREADS)


def _stop(damage: list[DamagedFileError]) -> None:
    raise BadInputError(
        f"{describe(damage[0].path, damage)}: fetch what is damaged again, or set on_damaged to "
        "leave_out_chip or leave_out_image."
    )


def _refuse(archive: Archive, table: pd.DataFrame) -> None:
    first = table.iloc[0]
    problem = first["problem"].rstrip(".")
    raise BadInputError(
        f"{archive.root} has no usable chip among its {len(table)} ({first['chip_id']}: "
        f"{problem}): complete the archive or relax the inspection options."
    )
