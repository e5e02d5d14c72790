"""A forest of one's own, small: region → chips and blocks → weights → report; begun elsewhere."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.pipelines.conftest import Run

pytestmark = pytest.mark.slow
REGION = "data/01_raw/region"
OWN = ",".join(
    (
        f"raw_root=data/01_raw/own,region_root={REGION},label={REGION}/label.tif",
        "chips_from_region.chip=64,chips_from_region.minimum_labelled=0.3",
        "data_engineering.folds.method=blocks,data_engineering.folds.count=2",
        "data_engineering.folds.side_km=1,data_engineering.folds.buffer_km=0",
        "training.batch_size=8,reporting.picture_chips=24",
    )
)


def test_from_a_region_to_a_report(kedro: Run, project: Path):
    size = "region_simulation.width=448,region_simulation.height=384"
    done = kedro(
        "run", "--env", "test", "--pipelines", "region_simulation", "--params",
        f"region_root={REGION},{size}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = "chips_from_region,data_engineering,training,inference,uncertainty,reporting"
    done = kedro("run", "--env", "test", "--pipelines", steps, "--params", OWN)
    assert done.returncode == 0, done.stderr

    folds = pd.read_parquet(project / "data/03_primary/test/folds.parquet")
    table = pd.read_parquet(project / "data/02_intermediate/test/chip_table.parquet")
    assert 12 <= len(table) < 42
    assert table["usable"].all()
    assert set(folds["fold"]) == {0, 1}
    assert folds["block"].nunique() >= 4
    report = project / "data/08_reporting/test"
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["held_out"] == "blocks"
    assert metrics["pixels"] < metrics["chips"] * 64**2  # some have gaps
    assert metrics["rmse_per_chip_mean"] > 0
    carbon = json.loads((report / "carbon.json").read_text())
    assert carbon["held_out"]["blocks"] == metrics["held_out_blocks"]
    assert carbon["held_out"]["area_ha"] == pytest.approx(metrics["pixels"] / 100)
    assert carbon["test"] is None
    page = (report / "report.html").read_text()
    assert "Whole blocks of land were held out" in page
    assert "Where the chips of each fold lie" in page
    assert "Grey: no label" in page

    # The same again: the chips are there, and nothing is trained anew.
    again = kedro("run", "--env", "test", "--pipelines", steps, "--params", OWN)
    assert again.returncode == 0, again.stderr

    # From these weights on, with other chips.
    start = "training.start_from_weights=data/06_models/test/weights.safetensors"
    others = OWN.replace("minimum_labelled=0.3", "minimum_labelled=0.6")
    done = kedro(
        "run", "--env", "test", "--pipelines", "chips_from_region,data_engineering,training",
        "--params", f"{others},{start},training.restart=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    description = json.loads((project / "data/06_models/test/weights.json").read_text())
    assert description["started_from"]["trained_on"]["dataset"] == "own"


def test_what_is_not_there_is_said_before_work_starts(kedro: Run, project: Path):
    done = kedro(
        "run", "--env", "own_forest", "--pipelines", "chips_from_region", "--params",
        f"region_root={REGION},label=mine.tif",
    )  # fmt: skip
    assert done.returncode == 1
    assert "mine.tif; give it with '--params label=PATH'" in done.stderr
    done = kedro(
        "run", "--env", "own_forest", "--pipelines", "chips_from_region", "--params",
        f"region_root={REGION},label={REGION}/label.tif,chips_from_region.label.unit=m3/ha",
    )  # fmt: skip
    assert done.returncode == 1
    assert "labels in m3/ha need expansion_factor" in done.stderr
    assert not (project / "data/01_raw/own_forest").exists()
