"""Every fold held out in turn: all that is scored is out-of-fold."""

import json

import pandas as pd
import pytest
from tests.pipelines.conftest import CHIPS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(project, kedro, default_run):
    default_run.copy_to(project, *CHIPS)
    settings = project / "conf" / "test" / "parameters.yml"
    text = settings.read_text()
    assert "training:\n" in text
    settings.write_text(text.replace("training:\n", "training:\n  folds: [0, 1, 2, 3]\n"))
    result = kedro(
        "run", "--env", "test", "--pipelines", "training,inference,uncertainty,reporting"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return project / "data"


def test_every_labelled_chip_is_scored_once(finished):
    folds = pd.read_parquet(finished / "03_primary/test/folds.parquet")
    scored = pd.read_csv(finished / "08_reporting/test/scores_per_chip.csv", dtype={"chip_id": str})
    assert sorted(scored["chip_id"]) == sorted(folds["chip_id"])
    assert folds["fold"].nunique() == 4


def test_baselines_and_intervals_are_of_the_same_chips(finished):
    metrics = json.loads((finished / "08_reporting/test/metrics.json").read_text())
    assert metrics["interval_chips"] == 8
    for name in ("rmse_per_chip_mean", "baseline_mean_rmse", "baseline_ridge_rmse"):
        assert 0 < metrics[name] < 500
    # Each regression learnt from the three other folds: six chips of 64 pixels each.
    assert metrics["ridge_pixels"] == 6 * 64
