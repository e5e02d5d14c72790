"""Verbs of the real_check pipeline."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.chips.archive.archive import Archive, data_name
from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Predictions
from biomassters.inference.options import InferenceOptions
from biomassters.messages import redact
from biomassters.pipelines.checks import check_maps, intervals_for
from biomassters.pipelines.prediction.pipeline import predict_chips_of
from biomassters.reporting.chip_maps import ChipPicture, choose_pictures
from biomassters.reporting.label_scores import (
    ArchiveScores,
    LabelledArchive,
    render_archive_page,
    score_archive,
    told_of_maps,
)
from biomassters.reporting.options import ReportingOptions

logger = logging.getLogger(__name__)


def predict_labelled(
    archive: Archive, weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of every complete labelled chip of an archive, made while they are written."""
    return predict_chips_of(archive, LabelledArchive(archive).chip_ids, weights, inference)


def compare_with_labels(
    archive: Archive,
    predictions: PredictionFolder,
    weights: NetworkWeights,
    run_calibration: str,
    reporting: ReportingOptions,
) -> tuple[ArchiveScores, dict[str, Any], pd.DataFrame]:
    """Maps compared with labels: scores, in JSON, and a row a chip."""
    check_maps(predictions, weights, "real_check")
    intervals, why_none = intervals_for(predictions, weights, Path(run_calibration))
    chips = LabelledArchive(archive)
    scores = score_archive(chips, predictions, reporting.known_mean, intervals)
    summary = scores.summary(why_none) | {
        "archive": data_name(archive.root),
        "weights": redact(predictions.weights),
        "weights_fingerprint": predictions.weights_fingerprint,
        "made_with": predictions.provenance.to_dict(),
    }
    logger.info(
        "%s: RMSE %.1f Mg/ha, mean over %d labelled chips (linear regression %.1f, the mean %.1f).",
        summary["archive"],
        summary["rmse_per_chip_mean"],
        len(summary["chips"]),
        summary["linear_rmse_per_chip_mean"],
        summary["mean_rmse_per_chip_mean"],
    )
    return scores, summary, scores.per_chip()


def choose_checked_chips(
    archive: Archive,
    predictions: PredictionFolder,
    scores: ArchiveScores,
    reporting: ReportingOptions,
) -> list[ChipPicture]:
    """Chips from the best to the worst, with what is drawn of each."""
    chips, table = LabelledArchive(archive), scores.per_chip()
    return choose_pictures(chips, predictions, table, reporting.picture_chips, scores.intervals)


def write_check_page(
    scores: ArchiveScores,
    summary: dict[str, Any],
    pictures: list[ChipPicture],
    predictions: PredictionFolder,
) -> str:
    """The scores and maps on one page that needs no other file."""
    told = told_of_maps(redact(predictions.weights), predictions.provenance)
    return render_archive_page(scores, summary, pictures, summary["archive"], told)
