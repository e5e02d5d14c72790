"""Verbs of the submission pipeline."""

import pandas as pd

from biomassters.chips.predictions import PredictionFolder
from biomassters.datasets.submission import Submission


def assemble_submission(test_predictions: PredictionFolder, chip_table: pd.DataFrame) -> Submission:
    """Predicted maps paired with the list of test chips that the metadata asks for."""
    test = chip_table[chip_table["split"] == "test"]
    sizes = test[["height", "width"]].drop_duplicates()
    size = (int(sizes["height"].iloc[0]), int(sizes["width"].iloc[0])) if len(sizes) else (256, 256)
    return Submission(test_predictions, tuple(test["chip_id"]), size)
