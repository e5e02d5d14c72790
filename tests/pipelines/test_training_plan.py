"""Which weights of a training are kept."""

import pandas as pd
import pytest

from biomassters.pipelines.training.stages import TrainedNetwork
from biomassters.training.state import TrainingResult

SCORE = "validation_rmse_per_chip_mean"


@pytest.fixture
def trained():
    def make(scores, best_epoch, best_score):
        history = pd.DataFrame({"epoch": range(1, len(scores) + 1), SCORE: scores})
        result = TrainingResult(
            best_state={"best": None},
            last_state={"last": None},
            history=history,
            timing=history[["epoch"]],
            best_epoch=best_epoch,
            best_score=best_score,
        )
        return TrainedNetwork(None, {"held_out_fold": 0}, result)

    return make


def test_the_last_weights_are_kept_with_the_last_score(trained):
    kept = trained([40.0, 30.0, 33.0], 2, 30.0).kept("last")
    assert kept.state == {"last": None}
    assert kept.description == {"held_out_fold": 0, "epoch": 3, "validation_rmse": 33.0}


def test_the_best_weights_are_kept_with_the_best_score(trained):
    kept = trained([40.0, 30.0, 33.0], 2, 30.0).kept("best")
    assert kept.state == {"best": None}
    assert kept.description == {"held_out_fold": 0, "epoch": 2, "validation_rmse": 30.0}


@pytest.mark.parametrize("keep", ["last", "best"])
def test_without_validation_there_is_no_score(trained, keep):
    nan = float("nan")
    kept = trained([nan, nan], None, None).kept(keep)
    assert (kept.description["epoch"], kept.description["validation_rmse"]) == (2, None)
