"""Test predictions + test labels → the challenge's score, by class and months, with coverage."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.chips.split_labels import SplitLabels
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.messages import redact
from biomassters.pipelines import namespaced
from biomassters.pipelines.checks import check_maps, intervals_for
from biomassters.pipelines.submission.nodes import expected_maps
from biomassters.reporting.label_scores import (
    render_split_page,
    score_split,
    summarise_split,
    told_of_maps,
)
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.scoring import Scores

logger = logging.getLogger(__name__)


def score_test_split(
    predictions: PredictionFolder,
    labels_folder: str,
    chip_table: pd.DataFrame,
    weights: NetworkWeights,
    calibration_file: str,
) -> tuple[Scores, dict[str, Any], pd.DataFrame]:
    """Maps of all test chips compared with their labels: scores, in JSON, and a row a chip."""
    check_maps(predictions, weights, "inference,scoring")
    predictions.check_files()
    labels = SplitLabels(labels_folder, *expected_maps(chip_table))
    intervals, why_none = intervals_for(predictions, weights, Path(calibration_file))
    scores = score_split(labels, predictions, intervals)
    summary = summarise_split(scores, labels, chip_table, why_none) | {
        "weights": redact(predictions.weights),
        "weights_fingerprint": predictions.weights_fingerprint,
        "made_with": predictions.provenance.to_dict(),
    }
    logger.info(
        "Test split: RMSE %.2f Mg/ha, mean over all %d chips.",
        summary["rmse_per_chip_mean"],
        summary["chips"],
    )
    return scores, summary, scores.accumulator.per_chip()


def write_test_page(
    scores: Scores,
    summary: dict[str, Any],
    predictions: PredictionFolder,
    reporting: ReportingOptions,
) -> str:
    """The scores on one page that needs no other file."""
    told = told_of_maps(redact(predictions.weights), predictions.provenance)
    return render_split_page(scores, summary, reporting.dataset, reporting.simulated, told)


def create_pipeline() -> Pipeline:
    """The score, then its page; nothing that trains takes a test label."""
    return namespaced(
        "scoring",
        Node(
            score_test_split,
            ["test_predictions", "test_labels", "chip_table", "final_weights", "uncertainty@place"],
            ["split_scores", "test_scores", "test_scores_per_chip"],
            name="score_test_split",
        ),
        Node(
            write_test_page,
            ["split_scores", "test_scores", "test_predictions", "params:reporting"],
            "test_page",
            name="write_test_page",
        ),
    )
