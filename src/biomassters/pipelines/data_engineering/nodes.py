"""Verbs of the data engineering pipeline."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.folds import make_folds
from biomassters.chips.quality.chip_table import inspect_archive, summarise_data
from biomassters.chips.quality.verification import verify_archive
from biomassters.chips.scaling import BandScaling
from biomassters.datasets.chip_store import Packing
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Threads, choose_workers

from .options import DataEngineeringOptions


def verify_files(
    archive: Archive, work: Path, data_engineering: DataEngineeringOptions, dask: DaskOptions
) -> pd.DataFrame:
    """Every file compared with the metadata: size, checksum, decoding."""
    workers = choose_workers(dask, len(archive.chip_ids()))
    return verify_archive(archive, work, data_engineering.verification, workers)


def inspect_chips(
    archive: Archive,
    verification: pd.DataFrame,
    data_engineering: DataEngineeringOptions,
    dask: DaskOptions,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every intact file read: a row per chip, and statistics per band over usable train chips."""
    workers = choose_workers(dask, len(archive.chip_ids()))
    table, statistics = inspect_archive(
        archive, data_engineering.inspection, workers=workers, verification=verification
    )
    return table, statistics.to_frame().reset_index(names="band")


def summarise_chips(chip_table: pd.DataFrame) -> dict[str, Any]:
    """The chip table condensed to counts and to the list of what is missing or damaged."""
    return asdict(summarise_data(chip_table))


def choose_scaling(
    band_statistics: pd.DataFrame, data_engineering: DataEngineeringOptions
) -> dict[str, Any]:
    """Minimum and maximum per band: the reference's constants, or those just measured."""
    if data_engineering.scaling == "reference":
        return BandScaling.reference().to_dict()
    return BandScaling.measured(band_statistics.set_index("band")).to_dict()


def assign_folds(
    chip_table: pd.DataFrame, data_engineering: DataEngineeringOptions
) -> pd.DataFrame:
    """Every usable labelled chip given the number of its fold."""
    return make_folds(chip_table, data_engineering.folds)


def pack_chips(
    archive: Archive,
    chip_table: pd.DataFrame,
    data_engineering: DataEngineeringOptions,
    dask: DaskOptions,
) -> Packing:
    """Usable chips handed over for packing; they are read while the store is written."""
    workers = choose_workers(dask, int(chip_table["usable"].sum()))
    # The store's own threads are made for one process.
    processes = None if isinstance(workers, Threads) else workers
    return Packing(UsableChips(archive, chip_table), data_engineering.codec, processes)
