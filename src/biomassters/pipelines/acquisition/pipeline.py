"""Object storage, mirror or tar → raw archive."""

import logging
from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

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


def create_pipeline() -> Pipeline:
    """Two nodes: the table of what came is saved before anything is called wrong."""
    return Pipeline(
        [
            Node(
                fetch_archive,
                ["raw_folder", "params:acquisition"],
                "acquisition_table",
                name="fetch_archive",
            ),
            Node(confirm_archive, "acquisition_table", None, name="confirm_archive"),
        ],
        namespace="acquisition",
        prefix_datasets_with_namespace=False,
    )
