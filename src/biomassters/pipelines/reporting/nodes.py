"""Verbs of the reporting pipeline."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.chips.chip import positions
from biomassters.chips.folds import blocks_of
from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.inference.options import InferenceOptions
from biomassters.messages import redacted
from biomassters.pipelines.checks import check_calibration, check_maps, check_same_data
from biomassters.reporting.baselines import Baselines, joint_baselines, out_of_fold, score_baselines
from biomassters.reporting.charts import best_and_last
from biomassters.reporting.chip_maps import ChipPicture
from biomassters.reporting.chip_maps import choose_pictures as pictures_of
from biomassters.reporting.model_card import RUN_FILE, model_card, versions_and_cost
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.report import UncertaintyContent
from biomassters.reporting.scoring import Scores, all_metrics, score_predictions
from biomassters.uncertainty.intervals import IntervalModel

# matplotlib.figure.Figure: importing it would cost every command a second, also those that
# draw nothing, and Kedro wants the types of a node at run time.
Figure = Any


def score_held_out(
    predictions: PredictionFolder,
    chip_store: ChipStore,
    weights: NetworkWeights,
    uncertainty: dict[str, Any],
) -> tuple[Scores, pd.DataFrame, pd.DataFrame]:
    """Held-out maps compared with their labels: all scores, a row per chip, a row per class.

    Everything that the report tells comes after this: here it is asked whether maps, intervals,
    weights and chips belong together.
    """
    check_maps(predictions, weights, "inference,uncertainty,reporting")
    check_same_data(weights, chip_store)
    check_calibration(uncertainty, weights)
    predictions.check_files()
    scores = score_predictions(chip_store.split("train"), predictions, list(predictions))
    return scores, scores.accumulator.per_chip(), scores.accumulator.by_class()


def fit_baselines(
    predictions: PredictionFolder,
    chip_store: ChipStore,
    folds: pd.DataFrame,
    reporting: ReportingOptions,
) -> Baselines:
    """Two simple methods, scored on the network's held-out chips, each fitted out of their fold."""
    split = chip_store.split("train")
    return joint_baselines(
        [
            score_baselines(split, train_ids, held_out_ids, reporting)
            for train_ids, held_out_ids in out_of_fold(folds, predictions)
        ]
    )


def collect_metrics(
    scores: Scores, baselines: Baselines, uncertainty: dict[str, Any], folds: pd.DataFrame
) -> dict[str, Any]:
    """The network's scores, the baselines' and the intervals' coverage in one mapping."""
    measured, blocks = uncertainty["measured"], blocks_of(folds)
    return all_metrics(scores.accumulator, baselines, measured, blocks)


def choose_pictures(
    predictions: PredictionFolder,
    chip_store: ChipStore,
    scores: Scores,
    uncertainty: dict[str, Any],
    reporting: ReportingOptions,
) -> list[ChipPicture]:
    """Chips from the best to the worst, with what is drawn of each."""
    split = chip_store.split("train")
    per_chip = scores.accumulator.per_chip()
    intervals = IntervalModel.from_dict(uncertainty["intervals"])
    return pictures_of(split, predictions, per_chip, reporting.picture_chips, intervals)


def read_attention(
    predictions: PredictionFolder,
    chip_store: ChipStore,
    folds: pd.DataFrame,
    weights: NetworkWeights,
    inference: InferenceOptions,
    reporting: ReportingOptions,
) -> pd.DataFrame:
    """How much the (first) network looked at each month of its held-out chips, by level."""
    from biomassters.inference.chips import attention_of_split

    split = chip_store.split("train")
    first = weights.members[0] if weights.members else weights
    fold = first.description.get("held_out_fold")
    unseen = set(folds["chip_id"] if fold is None else folds[folds["fold"] == fold]["chip_id"])
    names = [name for name in predictions if name in unseen] or list(predictions)
    chosen = positions(split, names[:: -(-len(names) // reporting.attention_chips)])
    return attention_of_split(weights.first, split, chosen, inference)


def draw_example_maps(pictures: list[ChipPicture]) -> Figure:
    """Image, target, prediction and residual of each chosen chip."""
    from biomassters.reporting.chip_maps import example_maps

    return example_maps(pictures)


def draw_density(scores: Scores) -> Figure:
    """Predicted against target biomass, every pixel counted."""
    from biomassters.reporting.plots import density_plot

    return density_plot(scores.density)


def write_report(
    scores: Scores,
    metrics: dict[str, Any],
    pictures: list[ChipPicture],
    training_history: pd.DataFrame,
    chip_table: pd.DataFrame,
    folds: pd.DataFrame,
    uncertainty: UncertaintyContent,
    other_metrics: str,
    reporting: ReportingOptions,
    recipe: dict[str, Any],
) -> str:
    """Everything that was found, on one page that needs no other file."""
    from biomassters.reporting.report import ReportContent, read_other_metrics, render_report

    content = ReportContent(
        options=reporting,
        scores=scores,
        metrics=metrics,
        pictures=pictures,
        history=training_history,
        chip_table=chip_table,
        recipe=recipe,
        best_and_last=_choice(recipe, training_history),
        uncertainty=uncertainty,
        fold_of_chip=dict(zip(folds["chip_id"], folds["fold"], strict=True)),
        blocks=blocks_of(folds),
        other_metrics=read_other_metrics(Path(other_metrics)),
        facts=versions_and_cost(training_history),
        run_file=RUN_FILE,
        date=datetime.now(UTC).date().isoformat(),
    )
    return render_report(content)


def gather_recipe(weights: NetworkWeights, inference: InferenceOptions) -> dict[str, Any]:
    """What the result depends on, as the weights and the options tell it."""
    told = ("data_fingerprint", "epoch", "network", "recipe", "trained_on")
    recipe = {name.replace("_", " "): weights.description.get(name) for name in told}
    recipe |= {"fingerprint": weights.fingerprint, "inference": inference.model_dump()}
    return dict(redacted({"weights": weights.name, **recipe}))


def _choice(recipe: dict[str, Any], history: pd.DataFrame) -> tuple[float, float] | None:
    """RMSE of the best and the last epoch where the held-out chips chose between them."""
    # Imported weights tell no recipe; those made before there was the option are the best ones.
    told = recipe.get("recipe") or {"keep": None}
    return best_and_last(history) if told.get("keep", "best") == "best" else None


def write_model_card(
    scores: Scores,
    metrics: dict[str, Any],
    recipe: dict[str, Any],
    training_history: pd.DataFrame,
    reporting: ReportingOptions,
) -> str:
    """What the weights are for, on what they learnt and how right they are, in Markdown."""
    by_class = scores.accumulator.by_class()
    choice = _choice(recipe, training_history)
    return model_card(reporting.dataset, reporting.simulated, recipe, metrics, by_class, choice)
