"""Verbs of the acquisition pipeline."""

import logging
from pathlib import Path

import pandas as pd

from biomassters.acquisition.acquire import acquire, require_complete, summarise
from biomassters.acquisition.options import AcquisitionOptions

logger = logging.getLogger(__name__)


def fetch_archive(raw_folder: Path, acquisition: AcquisitionOptions) -> pd.DataFrame:
    """Missing and wrong files fetched; a row for each wanted file."""
    table = acquire(raw_folder, acquisition)
    logger.info("Acquisition into %s:\n%s", raw_folder, summarise(table))
    return table


def confirm_archive(acquisition_table: pd.DataFrame) -> None:
    """The run ended with an error if any file is not right."""
    require_complete(acquisition_table)
