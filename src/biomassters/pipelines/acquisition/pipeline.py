"""Object storage, mirror or tar → raw archive."""

import logging
from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.acquisition.acquire import acquire, require_complete, summarise
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.pipelines import namespaced

logger = logging.getLogger(__name__)


def fetch_archive(raw_folder: Path, acquisition: AcquisitionOptions) -> pd.DataFrame:
    """Missing and wrong files fetched; a row for each wanted file."""
    table = acquire(raw_folder, acquisition)
    logger.info("Acquisition into %s:\n%s", raw_folder, summarise(table))
    return table


def create_pipeline() -> Pipeline:
    """Two nodes: the table of what came is saved before anything is called wrong."""
    return namespaced(
        "acquisition",
        Node(
            fetch_archive,
            ["raw_folder", "params:acquisition"],
            "acquisition_table",
            name="fetch_archive",
        ),
        Node(require_complete, "acquisition_table", None, name="confirm_archive"),
    )
