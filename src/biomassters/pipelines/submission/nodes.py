"""Verbs of the submission pipeline."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.chips.split_labels import SplitLabels
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Submission
from biomassters.pipelines.checks import check_maps
from biomassters.submission.check import SubmissionCheck, check_submission

logger = logging.getLogger(__name__)

# matplotlib.figure.Figure: importing it would cost every command a second.
Figure = Any


def assemble_submission(
    test_predictions: PredictionFolder, chip_table: pd.DataFrame, weights: NetworkWeights
) -> Submission:
    """Predicted maps paired with the list of test chips that the metadata asks for."""
    check_maps(test_predictions, weights, "inference,submission")
    test_predictions.check_files()
    return Submission(test_predictions, *expected_maps(chip_table))


def look_at_submission(submission: Path, chip_table: pd.DataFrame) -> dict[str, Any]:
    """The finished archive read once more: counts, range of values, anything unlikely."""
    check = check_submission(submission, *expected_maps(chip_table))
    _log_remarks(check)
    return {"file": submission.name, "bytes": submission.stat().st_size, **check.summary()}


def draw_preview(test_predictions: PredictionFolder) -> Figure:
    """Small pictures of the maps that are handed in, on one colour scale."""
    from biomassters.reporting.chip_maps import preview_sheet

    return preview_sheet(test_predictions)


def examine_submission(
    submission: Path, chip_table: pd.DataFrame, labels_folder: str
) -> dict[str, Any]:
    """Every member of an archive, whoever made it, compared with the list of test chips.

    Where the test labels are, its good maps are scored; that of all chips is the challenge's score.
    """
    chips, size = expected_maps(chip_table)
    if not Path(labels_folder).is_dir():
        check = check_submission(submission, chips, size)
        _log_remarks(check)
        return {"path": str(submission), **check.summary(), "scores": None}
    from biomassters.reporting.label_scores import summarise_split
    from biomassters.reporting.scoring import Scores

    labels, scores = SplitLabels(labels_folder, chips, size), Scores()
    check = check_submission(
        submission, chips, size, each_map=lambda chip, agb: scores.add(chip, agb, labels[chip])
    )
    _log_remarks(check)
    found = summarise_split(scores, labels, chip_table) if check.agb.maps else None
    return {"path": str(submission), **check.summary(), "scores": found}


def confirm_submission(examined: dict[str, Any]) -> None:
    """The run ended with an error if the archive is no valid submission."""
    check = SubmissionCheck(faults=[(name, fault) for name, fault in examined["faults"]])
    check.require_valid(Path(examined["path"]))
    logger.info("%s is a valid submission of %d maps.", examined["path"], examined["maps"])
    if examined["scores"] is not None:
        rmse = examined["scores"]["rmse_per_chip_mean"]
        logger.info("Its score: RMSE %.2f Mg/ha, mean over all test chips.", rmse)


def expected_maps(chip_table: pd.DataFrame) -> tuple[tuple[str, ...], tuple[int, int]]:
    """The test chips, and the size of their maps."""
    test = chip_table[chip_table["split"] == "test"]
    sizes = test[["height", "width"]].drop_duplicates()
    size = (int(sizes["height"].iloc[0]), int(sizes["width"].iloc[0])) if len(sizes) else (256, 256)
    return tuple(test["chip_id"]), size


def _log_remarks(check: SubmissionCheck) -> None:
    if check.remarks:
        name, remark = check.remarks[0]
        logger.info(
            "Valid, but worth a look: %s %s (%d such remarks).", name, remark, len(check.remarks)
        )
