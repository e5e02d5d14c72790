"""Verbs of the data engineering pipeline."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from biomassters.chips.archive import Archive
from biomassters.chips.archive_source import UsableChips
from biomassters.chips.chip_table import inspect_archive
from biomassters.chips.folds import make_folds
from biomassters.chips.scaling import BandScaling
from biomassters.datasets.chip_store import Packing
from biomassters.reporting.data_summary import summarise_data

from .options import DataEngineeringOptions


def inspect_chips(
    archive: Archive, data_engineering: DataEngineeringOptions
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every file read once: a row per chip, and statistics per band over usable train chips."""
    table, statistics = inspect_archive(archive, data_engineering.inspection)
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
    archive: Archive, chip_table: pd.DataFrame, data_engineering: DataEngineeringOptions
) -> Packing:
    """Usable chips handed over for packing; they are read while the store is written."""
    return Packing(UsableChips(archive, chip_table), data_engineering.codec)
