"""The default pipeline from nothing to a report, by the real command line."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.predicted_maps import PredictionFolder

pytestmark = pytest.mark.slow
TWO_STAGES = "training.stages=[{name: fit}, {name: finetune, epochs: 1, chips: all, start: last}]"


@pytest.fixture(scope="module")
def finished(project, default_run):
    return default_run.copy_to(project), default_run.result


def test_metrics_hold_the_score_and_both_baselines(finished):
    data, _ = finished
    metrics = json.loads((data / "08_reporting/test/metrics.json").read_text())
    for name in ("rmse_per_chip_mean", "baseline_mean_rmse", "baseline_ridge_rmse"):
        assert 0 < metrics[name] < 500


def test_the_submission_holds_every_test_chip_and_nothing_else(finished):
    data, _ = finished
    table = pd.read_parquet(data / "02_intermediate/test/chip_table.parquet")
    expected = {f"{chip}_agbm.tif" for chip in table.loc[table["split"] == "test", "chip_id"]}
    with tarfile.open(data / "07_model_output/test/submission.tar.gz") as archive:
        assert set(archive.getnames()) == expected


def test_predictions_are_finite_and_never_negative(finished):
    data, _ = finished
    for folder in ("held_out", "test"):
        for agb in PredictionFolder(data / "07_model_output/test" / folder).values():
            assert agb.dtype == np.float32
            assert np.isfinite(agb).all()
            assert (agb >= 0).all()


def test_every_map_has_bounds_and_the_submission_has_none(finished):
    data, _ = finished
    for folder in ("held_out_bounds", "test_bounds"):
        maps = PredictionFolder(data / "07_model_output/test" / folder)
        assert len(maps) == 2
        for chip_id, agb in maps.items():
            lower, upper = maps.read(chip_id).bounds_mg_per_ha
            assert (lower >= 0).all()
            assert (upper >= lower).all()
            np.testing.assert_array_equal(maps[chip_id], agb)
    summary = json.loads((data / "08_reporting/test/submission_summary.json").read_text())
    assert summary["maps"] == 2
    assert summary["faults"] == []


def test_coverage_carbon_and_the_run_are_recorded(finished):
    data, _ = finished
    folder = data / "08_reporting/test"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["interval_pixel_coverage"] <= 1
    carbon = json.loads((folder / "carbon.json").read_text())
    assert carbon["test"]["carbon_mg"] == pytest.approx(0.47 * carbon["test"]["biomass_mg"])
    record = json.loads((folder / "run.json").read_text())
    assert record["runs"][0]["status"] == "finished"
    assert record["nodes"]["inference.predict_test_chips"]["chips_out"] == {"test_predictions": 2}
    assert record["nodes"]["data_engineering.pack_chips"]["chips_out"] == {"chip_store": 10}
    assert (data / "06_models/test/model_card.md").read_text().startswith("# Weights")


def test_held_out_chips_are_those_of_the_held_out_fold(finished):
    data, _ = finished
    folds = pd.read_parquet(data / "03_primary/test/folds.parquet")
    scored = pd.read_csv(data / "08_reporting/test/scores_per_chip.csv", dtype={"chip_id": str})
    assert set(scored["chip_id"]) == set(folds.loc[folds["fold"] == 0, "chip_id"])


def test_the_report_is_one_file(finished):
    data, _ = finished
    report = (data / "08_reporting/test/report.html").read_text()
    assert "<html" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert 'src="http' not in report


# A script of its own: nothing of the package, so that both are right or differ.
_SCORE = """
import json, pathlib, sys
import numpy as np, rasterio
maps, labels = map(pathlib.Path, sys.argv[1:])
rmse = {}
for file in labels.glob("*_agbm.tif"):
    with rasterio.open(file) as label, rasterio.open(maps / file.name) as predicted:
        error = predicted.read(1).astype(float) - label.read(1).astype(float)
        rmse[file.name[:-9]] = float(np.sqrt(np.mean(error**2)))
print(json.dumps(rmse))
"""


@pytest.fixture(scope="module")
def scored(finished, kedro):
    data, _ = finished
    result = kedro("run", "--env", "test", "--pipelines", "scoring")
    assert result.returncode == 0, result.stdout + result.stderr
    folders = [
        str(data / place) for place in ("07_model_output/test/test", "01_raw/test/test_agbm")
    ]
    script = subprocess.run([sys.executable, "-W", "ignore", "-c", _SCORE, *folders],
                            capture_output=True, text=True, check=True)  # fmt: skip
    return data, result.stderr, json.loads(script.stdout)


def test_the_test_splits_score_is_that_of_a_script_of_its_own(scored):
    data, said, rmse = scored
    found = json.loads((data / "08_reporting/test/test_scores.json").read_text())
    assert len(rmse) == found["chips"] == found["chips_listed"] == 2
    assert found["rmse_per_chip_mean"] == pytest.approx(np.mean(list(rmse.values())), rel=1e-6)
    assert f"RMSE {found['rmse_per_chip_mean']:.2f} Mg/ha, mean over all 2 chips" in said
    per_chip = pd.read_csv(
        data / "08_reporting/test/test_scores_per_chip.csv", dtype={"chip_id": str}
    ).set_index("chip_id")
    assert per_chip["rmse"].to_dict() == pytest.approx(rmse, rel=1e-6)
    assert 0 <= found["intervals"]["pixel_coverage"] <= 1
    page = (data / "08_reporting/test/test_scores.html").read_text()
    assert f"{found['rmse_per_chip_mean']:.2f}" in page


def check(kedro, data, path):
    result = kedro("run", "--env", "test", "--pipelines", "submission_check",
                   "--params", f"submission_file={path}")  # fmt: skip
    findings = json.loads((data / "08_reporting/test/submission_findings.json").read_text())
    return result, findings


def test_anybodys_submission_is_scored(scored, kedro):
    data, _, rmse = scored
    path = data / "07_model_output/test/submission.tar.gz"
    result, findings = check(kedro, data, path)
    assert result.returncode == 0, result.stderr
    expected = np.mean(list(rmse.values()))
    assert findings["scores"]["rmse_per_chip_mean"] == pytest.approx(expected, rel=1e-6)
    assert f"Its score: RMSE {expected:.2f} Mg/ha" in result.stderr


def test_a_wrong_submission_is_reported_and_called_no_submission(scored, kedro, tmp_path):
    data, _, rmse = scored
    kept, gone = sorted(rmse)
    with tarfile.open(data / "07_model_output/test/submission.tar.gz") as good:
        good.extract(f"{kept}_agbm.tif", tmp_path, filter="data")
    with tarfile.open(tmp_path / "wrong.tar", "w") as wrong:
        wrong.add(tmp_path / f"{kept}_agbm.tif", f"{kept}_agbm.tif")
    result, findings = check(kedro, data, tmp_path / "wrong.tar")
    assert result.returncode == 1
    assert f"is no valid submission: {gone}_agbm.tif is missing" in result.stderr
    assert findings["faults"] == [[f"{gone}_agbm.tif", "is missing"]]
    scores = findings["scores"]
    assert (scores["chips"], scores["chips_listed"]) == (1, 2)
    assert scores["rmse_per_chip_mean"] == pytest.approx(rmse[kept], rel=1e-6)


def test_labels_that_are_not_there_are_said_before_the_first_node(finished, kedro):
    result = kedro("run", "--env", "test", "--pipelines", "scoring",
                   "--params", "test_labels=data/none")  # fmt: skip
    assert result.returncode == 1
    assert "There are no test labels in data/none: fetch them" in result.stderr
    assert "1 of 2" not in result.stderr


def test_no_warning_is_printed(finished):
    _, result = finished
    assert "Warning" not in result.stdout + result.stderr


def test_a_file_gets_few_lines_one_a_node_and_no_control_characters(finished):
    _, result = finished
    lines = result.stderr.splitlines()
    assert result.stdout == ""
    assert len(lines) <= 60
    numbers = re.findall(r"^\S+ +(\d+) of 30  [a-z]", result.stderr, re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 31))
    assert not set(result.stderr) & set("\r\33\b")
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)


def test_the_closing_lines_say_score_and_paths(finished):
    _, result = finished
    for text in ("Score: RMSE", "submission.tar.gz", "report.html", "weights.safetensors",
                 "test_bounds", "Done: 30 nodes in"):  # fmt: skip
        assert text in result.stdout + result.stderr


def test_a_second_run_repeats_nothing_and_changes_nothing(finished, kedro):
    data, _ = finished
    kept = [
        data / "05_model_input/test/chips.zarr/manifest.json",
        data / "06_models/test/weights.safetensors",
        data / "08_reporting/test/metrics.json",
        data / "07_model_output/test/submission.tar.gz",
    ]
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in kept]
    again = kedro("run", "--env", "test")
    assert again.returncode == 0
    assert "Training is complete" in again.stdout + again.stderr
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in kept] == before


def test_weights_say_at_which_window_they_were_trained_and_which_are_kept(finished, kedro):
    data, _ = finished
    description = json.loads((data / "06_models/test/weights.json").read_text())
    history = pd.read_parquet(data / "06_models/test/training_history.parquet")
    scores = history.set_index("epoch")["validation_rmse_per_chip_mean"]
    assert description["window"] == 64
    assert description["epoch"] == 2
    assert description["validation_rmse"] == pytest.approx(scores[2])
    assert "did best on these same" not in (data / "08_reporting/test/report.html").read_text()


def test_crops_that_leave_kernels_untrained_are_refused_before_training(finished, kedro):
    data, _ = finished
    before = (data / "06_models/test/weights.safetensors").read_bytes()
    result = kedro("run", "--env", "test", "--pipelines", "training",
                   "--params", "network.backbone=mobilenetv3_small_050")  # fmt: skip
    assert result.returncode == 1
    said = " ".join(result.stderr.split())
    assert "the chips have 64 pixels, on which" in said
    assert "use at least 96 pixels" in said
    assert (data / "06_models/test/weights.safetensors").read_bytes() == before


def test_weights_map_an_archive_that_they_have_never_seen(finished, kedro, sample_root):
    data, _ = finished
    result = kedro(
        "run", "--env", "test", "--pipelines", "prediction",
        "--params", f"prediction_root={sample_root},predictions=data/maps",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    maps = PredictionFolder(data / "maps")
    assert maps["000aa810"].shape == (256, 256)
    assert np.isfinite(maps["000aa810"]).all()


def test_fine_tuned_weights_map_but_are_never_scored(finished, kedro):
    data, _ = finished
    models = data / "06_models/test"
    fit, final = (
        json.loads((models / name).read_text()) for name in ("weights.json", "final_weights.json")
    )
    assert fit == final  # no second stage so far
    tuned = kedro("run", "--env", "test", "--pipelines", "training",
                  "--params", TWO_STAGES)  # fmt: skip
    assert tuned.returncode == 0, tuned.stdout + tuned.stderr
    final = json.loads((models / "final_weights.json").read_text())
    assert (final["held_out_fold"], final["validation_rmse"]) == (None, None)
    assert "trained on every labelled chip" in final["validation_note"]
    assert json.loads((models / "weights.json").read_text())["held_out_fold"] == 0
    scored = kedro("run", "--env", "test", "--nodes", "inference.predict_held_out_chips",
                   "--params", f"weights={models / 'final_weights.safetensors'}")  # fmt: skip
    assert scored.returncode == 1
    assert "its score on held-out chips is not available" in scored.stderr


def test_weights_of_other_chips_are_not_scored(finished, kedro):
    data, _ = finished
    changed = kedro(
        "run", "--env", "test", "--pipelines", "simulation,data_engineering",
        "--params", "simulation.seed=7",
    )  # fmt: skip
    assert changed.returncode == 0, changed.stdout + changed.stderr
    before = (data / "08_reporting/test/metrics.json").read_bytes()
    result = kedro("run", "--env", "test", "--pipelines", "inference,reporting")
    assert result.returncode == 1
    assert "was trained on other chips" in result.stderr
    assert (data / "08_reporting/test/metrics.json").read_bytes() == before


@pytest.mark.parametrize(("columns", "wide"), [(80, True), (40, False)])
def test_training_in_a_terminal_shows_one_bar_with_the_time_left_of_the_run(
    finished, kedro_in_terminal, columns, wide
):
    """Of every epoch, not of each; no word is broken, and NO_COLOR is honoured."""
    shown = kedro_in_terminal(
        columns, "run", "--env", "test", "--namespaces", "training",
        "--params", "training.restart=true", env={"NO_COLOR": "1"},
    )  # fmt: skip
    assert shown.code == 0, shown.raw
    assert "\33" not in shown.raw
    assert all(len(line) <= columns or "/" in line for line in shown.lines)
    bars = re.findall(r"\r([^\r\n]*training:[^\r\n]*)", shown.raw)
    shares = [int(re.search(r"(\d+)%", bar)[1]) for bar in bars]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert any(0 < share < 100 for share in shares)
    assert any("left" in bar for bar in bars)
    assert all(("[" in bar) == wide for bar in bars)
    assert all(bar.startswith("1 of 1 training: ") for bar in bars)
    said = " ".join(line.strip() for line in shown.lines)
    assert "1 of 1 train stages" in " ".join(said.split())
    assert "Epoch 2 of 2: loss" in said
    if wide:
        assert "data/06_models/test/weights.safetensors" in shown.lines[-2]
        assert "data/06_models/test/final_weights.safetensors" in shown.lines[-1]


def test_the_tutorial_runs_as_written(finished, project, kedro, monkeypatch, capsys):
    """Its first command is the run above; the others and its Python follow, on small data."""
    page = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    commands = [
        line.removeprefix("uv run kedro ")
        for kind, block in blocks
        if kind == "bash"
        for line in block.splitlines()
        if "kedro" in line
    ]
    assert commands[0] == "run"
    assert len(commands) == 3
    for command in commands[1:]:
        small = command.replace("=512", "=96")
        result = kedro(*small.split(), "--env", "test")
        assert result.returncode == 0, result.stdout + result.stderr
    assert (project / "data/07_model_output/small_region/agb.tif").is_file()
    monkeypatch.chdir(project)
    (code,) = [block for kind, block in blocks if kind == "python"]
    exec(code.replace("/simulated/", "/test/"), {})
    assert "Mg/ha on average" in capsys.readouterr().out
    named = re.findall(r"`(data/[\w/.]+)`", page)
    assert named
    assert [
        name for name in named if not Path(name.replace("/simulated/", "/test/")).exists()
    ] == []


def test_a_map_takes_its_intervals_from_the_file_that_is_named(finished, project, kedro):
    """As docs/regions.md has it: the group of parameters ``uncertainty`` stays what it is."""
    page = (Path(__file__).parents[2] / "docs/regions.md").read_text()
    (given,) = re.findall(r"`--params (\w+=)FILE`", page)
    models = project / "data/06_models/test"
    again = kedro("run", "--env", "test", "--pipelines", "inference,uncertainty")
    assert again.returncode == 0, again.stdout + again.stderr
    shutil.copy(models / "uncertainty.json", models / "other.json")
    for name, level in (("other", 0.5), ("nowhere", None)):
        params = f"{given}data/06_models/test/{name}.json,region_map=data/{name}/agb.tif"
        result = kedro(
            "run", "--env", "test", "--pipelines", "region_simulation,mapping", "--params", params
        )
        assert result.returncode == 0, result.stdout + result.stderr
        summary = json.loads((project / f"data/{name}/agb.tif.summary.json").read_text())
        assert summary["intervals"] == (level is not None)
        assert summary.get("level") == level
        assert (project / f"data/{name}/agb_interval_width.vrt").exists() == (level is not None)
