import json

import pandas as pd

from biomassters.reporting.charts import (
    best_and_last,
    curves_of,
    learning_curve,
    score_chart,
)


def test_learning_curve_has_a_line_a_quantity(history):
    chart = learning_curve(history)
    assert [line.name for line in chart.data] == [
        "training loss",
        "held-out RMSE",
        "held-out RMSE, target < 400",
    ]
    assert list(chart.data[1].x) == [2, 3]
    assert not learning_curve(pd.DataFrame()).data


def test_scores_are_named_best_method_first():
    metrics = {
        "rmse_per_chip_mean": 30.0,
        "baseline_mean_rmse": 60.0,
        "baseline_ridge_rmse": 45.0,
    }
    (bars,) = score_chart(metrics).data
    assert list(bars.x) == [30.0, 45.0, 60.0]
    assert bars.y[0] == "Network"


def test_charts_are_plain_json_without_nan(history):
    for chart in (learning_curve(history), score_chart({"rmse_per_chip_mean": 30.0})):
        content = json.loads(chart.to_json(), parse_constant=lambda name: 1 / 0)
        assert content["layout"]["title"]["text"]


def test_only_what_was_measured_in_the_epochs_it_was(history):
    loss, score, masked = curves_of(history)
    assert loss.epochs.tolist() == [1, 2, 3]
    assert not loss.held_out
    assert score.epochs.tolist() == [2, 3]
    assert score.values.tolist() == [50, 44]
    assert score.held_out
    assert masked.held_out
    assert len({curve.dash for curve in (loss, score, masked)}) == 3


def test_training_without_validation_or_without_an_epoch(history):
    unvalidated = history.assign(
        validation_rmse_per_chip_mean=float("nan"),
        validation_rmse_masked_per_chip_mean=float("nan"),
    )
    assert [curve.name for curve in curves_of(unvalidated)] == ["training loss"]
    assert curves_of(pd.DataFrame()) == []
    assert curves_of(history.iloc[:0]) == []


def test_best_and_last_validation_are_means_over_folds():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3, 1, 2, 3],
            "held_out_fold": [0, 0, 0, 1, 1, 1],
            "validation_rmse_per_chip_mean": [float("nan"), 30.0, 33.0, float("nan"), 41.0, 39.0],
        }
    )
    assert best_and_last(history) == (34.5, 36.0)
    assert best_and_last(history[history["epoch"] == 1]) is None
