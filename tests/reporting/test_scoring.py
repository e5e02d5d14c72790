import numpy as np
import pytest

from biomassters.errors import BadInputError
from biomassters.reporting.scoring import score_predictions


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
