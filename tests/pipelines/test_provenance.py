"""What belongs together: maps, intervals, weights and chips, by the real command line."""

import json
import re

import pytest
import rasterio

from biomassters.pipelines.inference import create_pipeline

pytestmark = pytest.mark.slow
TWO_STAGES = "training.stages=[{name: fit}, {name: finetune, epochs: 1, chips: all, start: last}]"
STAGES = "inference,uncertainty,reporting,submission"


@pytest.fixture(scope="module")
def finished(project, default_run):
    return default_run.copy_to(project)


def error_of(result) -> str:
    """The sentence that ended a run."""
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stderr.rpartition("Error: ")[2]


def test_weights_say_what_they_were_trained_on(finished):
    description = json.loads((finished / "06_models/test/weights.json").read_text())
    trained_on = description["trained_on"]
    assert (trained_on["simulated"], trained_on["dataset"]) == (True, "test")
    assert trained_on["chips"] == 6  # of 8, two are held out
    assert trained_on["data_fingerprint"] == description["data_fingerprint"]
    assert len(description["fingerprint"]) == 64


def test_every_map_says_what_it_is(finished):
    description = json.loads((finished / "06_models/test/weights.json").read_text())
    for folder in ("test", "test_bounds"):
        path = next((finished / "07_model_output/test" / folder).glob("*.tif"))
        with rasterio.open(path) as file:
            tags = file.tags()
            assert tags["weights_sha256"] == description["fingerprint"]
            assert tags["trained_on"] == "a simulated forest (test, 6 chips)"
            assert file.descriptions[0] == "AGB, Mg/ha"
            assert set(file.units) == {"Mg/ha"}
            assert file.nodata != file.nodata  # NaN
            assert file.read(1).min() >= 0
    assert tags["intervals"] == "level 0.5"


def test_simulated_weights_on_real_images(finished, kedro, sample_root):
    result = kedro(
        "run", "--env", "test", "--pipelines", "prediction", "--params",
        f"prediction_root={sample_root},predictions=data/maps,inference.views=[identity]",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    output = " ".join((result.stdout + result.stderr).split())
    assert "were trained on a simulated forest" in output
    assert f"{sample_root} holds real images" in output


def test_intervals_of_other_views_are_refused(finished, kedro, sample_root):
    """Of the maps that the test before made."""
    result = kedro("run", "--env", "test", "--pipelines", "prediction_bounds",
                   "--params", "predictions=data/maps,bounds=data/bounds")  # fmt: skip
    assert "views identity instead of identity, left_right" in error_of(result)
    assert not (finished / "bounds").exists()


def test_maps_of_other_weights_are_not_scored_nor_handed_in(finished, kedro):
    kept = [
        finished / "08_reporting/test/metrics.json",
        finished / "06_models/test/uncertainty.json",
        finished / "07_model_output/test/submission.tar.gz",
    ]
    before = [path.read_bytes() for path in kept]
    again = kedro("run", "--env", "test", "--pipelines", "training",
                  "--params", "training.seed=7,training.restart=true")  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    for pipeline in ("uncertainty", "reporting", "submission"):
        sentence = error_of(kedro("run", "--env", "test", "--pipelines", pipeline))
        assert "was made by other weights" in sentence
        assert f"run '--pipelines inference,{pipeline}" in sentence.replace(
            "inference,uncertainty,reporting", "inference,reporting"
        )
    assert [path.read_bytes() for path in kept] == before
    # New maps with the old intervals are no better.
    maps = kedro("run", "--env", "test", "--pipelines", "inference")
    assert maps.returncode == 0, maps.stdout + maps.stderr
    sentence = error_of(kedro("run", "--env", "test", "--pipelines", "reporting"))
    assert "The calibration of intervals (uncertainty.json) was made by other weights" in sentence
    assert [path.read_bytes() for path in kept] == before
    mended = kedro("run", "--env", "test", "--pipelines", STAGES)
    assert mended.returncode == 0, mended.stdout + mended.stderr


def test_fine_tuned_weights_borrow_the_intervals_of_those_they_started_from(finished, kedro):
    tuned = kedro("run", "--env", "test", "--pipelines", "training," + STAGES,
                  "--params", f"training.seed=7,{TWO_STAGES}")  # fmt: skip
    assert tuned.returncode == 0, tuned.stdout + tuned.stderr
    models = finished / "06_models/test"
    final = json.loads((models / "final_weights.json").read_text())
    fit = json.loads((models / "weights.json").read_text())
    assert final["started_from"]["fingerprint"] == fit["fingerprint"] != final["fingerprint"]
    assert final["trained_on"]["chips"] == 8
    path = next((finished / "07_model_output/test/test_bounds").glob("*.tif"))
    with rasterio.open(path) as file:
        assert (
            "calibrated for the weights that these were fine-tuned from" in file.tags()["intervals"]
        )


def test_imported_weights_have_no_held_out_fold_unless_one_is_stated(
    finished, kedro, reference_root
):
    checkpoint = reference_root / "mobilenetv3_small_050" / "modelo_best.pth"
    imported = kedro("run", "--env", "test", "--pipelines", "reference_weights",
                     "--params", f"reference_checkpoint={checkpoint}")  # fmt: skip
    assert imported.returncode == 0, imported.stdout + imported.stderr
    before = (finished / "08_reporting/test/metrics.json").read_bytes()
    result = kedro("run", "--env", "test", "--pipelines", "inference,uncertainty,reporting")
    sentence = error_of(result)
    assert "was trained elsewhere, and no fold is known that it never saw" in sentence
    advice = re.search(r"--nodes ([\w.]+)", sentence)[1]
    assert advice in {node.name for node in create_pipeline().nodes}
    assert "reference_held_out_fold=N" in sentence
    assert (finished / "08_reporting/test/metrics.json").read_bytes() == before
    # The test split needs no fold: from the released file to the challenge's score in one command.
    scored = kedro("run", "--env", "test", "--to-outputs", "test_page", "--pipelines",
                   "reference_weights,inference,scoring",
                   "--params", f"reference_checkpoint={checkpoint}")  # fmt: skip
    assert scored.returncode == 0, scored.stdout + scored.stderr
    scores = json.loads((finished / "08_reporting/test/test_scores.json").read_text())
    assert scores["chips"] == scores["chips_listed"] == 2
    assert scores["made_with"]["trained_on"]["dataset"] == "unknown, from modelo_best.pth"
    assert "other weights" in scores["intervals"]["note"]
    assert f"RMSE {scores['rmse_per_chip_mean']:.2f} Mg/ha" in scored.stderr
    stated = kedro(
        "run", "--env", "test", "--pipelines", "reference_weights,inference,uncertainty,reporting",
        "--params", f"reference_checkpoint={checkpoint},reference_held_out_fold=1",
    )  # fmt: skip
    assert stated.returncode == 0, stated.stdout + stated.stderr
