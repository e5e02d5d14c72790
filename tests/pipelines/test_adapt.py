"""A few labelled chips, by the commands of the page, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tests.pipelines.conftest import REPOSITORY

pytestmark = pytest.mark.slow
SMALL = "adapt.steps=2,training.batch_size=2,training.crop=96"
PAGE = (REPOSITORY / "docs/few_chips.md").read_text()


def commands() -> list[list[str]]:
    """Those of the page's first block, as arguments of ``kedro``."""
    block = re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1]
    return [line.removeprefix("uv run kedro ").split() for line in block.splitlines()]


def run(kedro, *arguments):
    done = kedro(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_two_chips_are_learnt_from_and_each_is_left_out_once(project, kedro):
    size = "simulation.chip_size=96,simulation.train_chips=2,simulation.test_chips=1"
    run(kedro, "run", "--env", "test", "--pipelines", "simulation", "--params", size)
    place = f"raw_root=data/01_raw/test,{SMALL}"
    done = run(kedro, "run", "--env", "few_chips", "--pipelines", "adapt", "--params", place)
    assert "Fine-tuning starter on 2 labelled chips" in done.stderr
    scores = json.loads((project / "data/08_reporting/few_chips/left_out_scores.json").read_text())
    assert [len(row["chips"]) for row in scores["left_out"]] == [1, 1]
    assert scores["rmse_per_chip_mean"] == pytest.approx(
        sum(row["rmse"] for row in scores["left_out"]) / 2
    )
    assert f"RMSE on chips left out: {scores['rmse_per_chip_mean']:.1f} Mg/ha" in done.stderr
    models = project / "data/06_models/few_chips"
    starter = json.loads((REPOSITORY / "src/biomassters/starter/starter.json").read_text())
    described = json.loads((models / "final_weights.json").read_text())
    assert described["started_from"]["fingerprint"] == starter["fingerprint"]
    assert described["network"] == starter["network"]
    assert described["trained_on"]["chips"] == 2
    left_out = json.loads((models / "weights.json").read_text())
    assert left_out["members"] == ["weights_1.safetensors"]

    done = run(kedro, "run", "--env", "few_chips", "--pipelines", "prediction", "--params",
               "prediction_root=data/01_raw/test")  # fmt: skip
    assert len(list((project / "data/07_model_output/few_chips/archive").glob("*.tif"))) == 3


def test_without_a_usable_label_nothing_is_trained(project, kedro):
    table = project / "data/03_primary/few_chips/folds.parquet"
    pd.read_parquet(table).iloc[:0].to_parquet(table)
    done = kedro("run", "--env", "few_chips", "--pipelines", "adapt", "--nodes",
                 "adapt.adapt_weights")  # fmt: skip
    assert done.returncode == 1
    assert "holds no usable chip with a label to learn from" in done.stderr


def test_the_page_runs_on_real_chips(project, kedro, sample_root: Path, real_chips_root: Path):
    """As written, but for the steps, which are fewer."""
    for name, source in (("few_chips", real_chips_root / "288afc34"), ("more_chips", sample_root)):
        shutil.rmtree(project / "data/01_raw" / name, ignore_errors=True)
        (project / "data/01_raw" / name).symlink_to(source)
    for folder in ("02_intermediate", "03_primary", "05_model_input", "06_models"):
        shutil.rmtree(project / "data" / folder / "few_chips", ignore_errors=True)
    check, adapt, predict = commands()
    run(kedro, *check)
    done = run(kedro, *adapt, "--params", SMALL)
    assert "Nothing was left out" in done.stderr
    run(kedro, *predict)
    found = json.loads((project / "data/08_reporting/few_chips/real_check.json").read_text())
    assert [row["chip_id"] for row in found["chips"]] == ["288afc34"]
    assert found["chips"][0]["rmse"] < found["chips"][0]["mean_rmse"]
    maps = project / "data/07_model_output/few_chips/archive"
    assert {file.name for file in maps.glob("*.tif")} == {"000aa810_agbm.tif", "001b0634_agbm.tif"}
