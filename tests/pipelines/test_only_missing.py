"""`--only-missing-outputs`, as docs/how_to/resume.md has it: existence counts, nothing else."""

import re

import pandas as pd
import pytest

pytestmark = pytest.mark.slow
FOLDS, WEIGHTS = "data/03_primary/test/folds.parquet", "data/06_models/test/weights.safetensors"


def nodes_run(result):
    assert result.returncode == 0, result.stdout + result.stderr
    return re.findall(r"\d+ of \d+  (\w[\w ]*?)  ", result.stderr)


def test_missing_results_alone_are_made_and_training_goes_on_from_its_own_state(project, kedro):
    run = ("run", "--env", "test", "--pipelines", "simulation,data_engineering,training")
    missing = (*run, "--only-missing-outputs")
    assert len(nodes_run(kedro(*run))) > 5
    assert nodes_run(kedro(*missing)) == []

    # What is there is kept, whatever it was made with.
    folds = pd.read_parquet(project / FOLDS)
    assert nodes_run(kedro(*missing, "--params", "data_engineering.folds.count=2")) == []
    pd.testing.assert_frame_equal(pd.read_parquet(project / FOLDS), folds)

    # What is missing is made, and with it nothing that is there.
    (project / FOLDS).unlink()
    assert nodes_run(kedro(*missing)) == ["assign folds"]
    pd.testing.assert_frame_equal(pd.read_parquet(project / FOLDS), folds)

    # Weights come back from the checkpoints, to the byte, without an epoch.
    weights = project / WEIGHTS
    before = weights.read_bytes()
    weights.unlink()
    weights.with_suffix(".json").unlink()
    again = kedro(*missing)
    assert nodes_run(again) == ["train stages"]
    assert not re.search(r"Epoch \d+ of", again.stderr)
    assert weights.read_bytes() == before
