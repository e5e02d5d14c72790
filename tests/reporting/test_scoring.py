import json

import numpy as np
import pandas as pd
import pytest

from biomassters.errors import BadInputError
from biomassters.metrics import ScoreAccumulator
from biomassters.reporting.baselines import Baselines, score_baselines
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.scoring import (
    all_metrics,
    bootstrap_score,
    compared_scores,
    score_predictions,
    verdict,
)


def test_scores_of_a_constant_error(forest):
    maps = {chip.chip_id: chip.agb_mg_per_ha + 3 for chip in forest.chips}
    scores = score_predictions(forest, maps, ["c1", "c3"], progress=False)
    summary = scores.accumulator.summary()
    assert summary["rmse_per_chip_mean"] == pytest.approx(3.0, rel=1e-5)
    assert summary["bias"] == pytest.approx(3.0, rel=1e-5)
    assert scores.accumulator.per_chip()["chip_id"].tolist() == ["c1", "c3"]
    assert scores.density.counts.sum() == 2 * forest.height * forest.width


def test_a_chip_store_gives_the_same_scores(forest, maps, scores, store_split):
    again = score_predictions(store_split, maps, ["c1", "c3", "c5"], progress=False)
    assert again.accumulator.summary() == scores.accumulator.summary()


def test_missing_predictions_are_named_and_counted(forest):
    maps = {"c0": forest.chips[0].agb_mg_per_ha}
    with pytest.raises(BadInputError, match=r"no map of chip c1 \(2 of 3"):
        score_predictions(forest, maps, ["c0", "c1", "c2"], progress=False)


def test_prediction_that_is_no_number_is_named(forest):
    maps = {"c0": np.full((forest.height, forest.width), np.nan, np.float32)}
    with pytest.raises(BadInputError, match="Chip c0"):
        score_predictions(forest, maps, ["c0"], progress=False)


@pytest.fixture
def metrics(forest, scores) -> dict:
    options = ReportingOptions(ridge_pixels_per_chip=64)
    held_out, train = ["c1", "c3", "c5"], ["c0", "c2", "c4"]
    baselines = score_baselines(forest, train, held_out, options, progress=False)
    return all_metrics(scores.accumulator, baselines)


def test_metrics_hold_the_three_scores_and_are_json_ready(metrics):
    json.dumps(metrics, allow_nan=False)
    network, ridge, mean = (score.rmse for score in compared_scores(metrics))
    assert network == metrics["rmse_per_chip_mean"]
    assert ridge == metrics["baseline_ridge_rmse"]
    assert mean == metrics["baseline_mean_rmse"]
    assert metrics["gain_over_mean"] == pytest.approx(1 - network / mean)
    assert metrics["gain_over_ridge"] == pytest.approx(1 - network / ridge)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.313, "31 % less than predicting"),
        (-0.5, "50 % more than predicting"),
        (0.001, "no better than predicting"),
        (-0.001, "no better than predicting"),
    ],
)
def test_verdict_says_which_way_it_goes(gain, words):
    metrics = {"rmse_per_chip_mean": 40.0, "chips": 1200, "gain_over_mean": gain}
    sentence = verdict(metrics)
    assert words in sentence
    assert "On 1,200 held-out chips" in sentence
    assert "40.0 Mg/ha" in sentence


def test_the_rmse_is_not_called_typical_and_the_mean_absolute_error_stands_beside_it():
    sentence = verdict({"rmse_per_chip_mean": 29.3, "mae": 17.6, "chips": 40})
    assert "RMSE is 29.3 Mg/ha" in sentence
    assert "mean absolute error 17.6" in sentence
    assert "typical" not in sentence


@pytest.mark.parametrize(
    ("bias", "words"), [(-77.6, "biased low by 77.6 Mg/ha, 30 %"), (40.0, "biased high"), (5.0, "")]
)
def test_the_verdict_says_how_the_tallest_forest_is_biased(bias, words):
    by_class = pd.DataFrame(
        {
            "biomass_class": ["150-200", ">200"],
            "pixels": [9, 9],
            "bias": [-90.0, bias],
            "target_mean": [170.0, 260.0],
        }
    )
    sentence = verdict({"rmse_per_chip_mean": 29.3, "mae": 17.6, "chips": 40}, by_class)
    assert words in sentence
    assert ("above 200 Mg/ha" in sentence) == bool(words)


def test_verdict_of_one_chip_and_of_none():
    assert "On 1 held-out chip that" in verdict({"rmse_per_chip_mean": 4.0, "chips": 1})
    assert "Nothing was scored" in verdict(ScoreAccumulator().summary())
    assert compared_scores(ScoreAccumulator().summary()) == []


def test_the_score_of_blocks_is_drawn_by_block():
    """Two blocks of RMSE 10 and 30: the mean of two draws is 10, 20 or 30."""
    rmse, blocks = [10.0] * 5 + [30.0] * 5, [4] * 5 + [2] * 5
    found = bootstrap_score(rmse, blocks=blocks)
    assert (found.lower, found.upper) == (10.0, 30.0)
    alone = bootstrap_score(rmse)
    assert alone.lower > 13
    assert bootstrap_score(rmse, blocks=[1] * 10) is None


def test_metrics_say_what_was_held_out(forest, maps, scores):
    baselines = Baselines(50.0, 10)
    alone = all_metrics(scores.accumulator, baselines)
    assert alone["held_out"] == "chips"
    blocks = {"c0": 0, "c1": 0, "c2": 1, "c3": 1, "c4": 2, "c5": 2}
    found = all_metrics(scores.accumulator, baselines, blocks=blocks)
    assert (found["held_out"], found["held_out_blocks"]) == ("blocks", 3)
