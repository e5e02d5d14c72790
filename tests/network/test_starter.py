"""The weights that come with the package."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from biomassters.chips.archive.archive import Archive
from biomassters.inference.chips import predict_chips
from biomassters.inference.options import InferenceOptions
from biomassters.network import starter
from biomassters.network.weights import load_network, read_description
from biomassters.network.window import smallest_window
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips, write_simulated


def test_the_name_means_the_packaged_file_and_any_other_itself(tmp_path):
    assert starter.weights_file("starter") == starter.STARTER_FILE
    assert starter.weights_file(tmp_path / "starter") == starter.STARTER_FILE  # as Kedro gives it
    for name in ("starter.safetensors", "starter/weights.safetensors"):
        assert starter.weights_file(tmp_path / name) == tmp_path / name


def test_intervals_beside_the_weights_come_first_but_for_those_calibrated_anew(tmp_path):
    weights, of_run = tmp_path / "w.safetensors", tmp_path / "uncertainty.json"
    beside = tmp_path / "w.uncertainty.json"
    assert starter.calibration_file(weights, of_run) == of_run
    beside.write_text('{"weights_fingerprint": "a"}')
    assert starter.calibration_file(weights, of_run) == beside
    for content, chosen in {
        '{"weights_fingerprint": "b"}': beside,
        '{"weights_fingerprint": "a", "level": 0.8}': of_run,
        '{"weights_fingerpr': of_run,  # its reader says what is wrong
    }.items():
        of_run.write_text(content)
        assert starter.calibration_file(weights, of_run) == chosen


def test_the_starter_is_small_whole_and_sound_on_whole_chips():
    assert starter.STARTER_FILE.stat().st_size < 4_000_000
    described = read_description(starter.STARTER_FILE)
    assert described["trained_on"]["simulated"]
    assert described["window"] >= smallest_window(described["network"]["backbone"])
    load_network(starter.STARTER_FILE)


def test_its_intervals_are_its_own():
    file = starter.STARTER_FILE.with_suffix(".uncertainty.json")
    if file.is_file():
        made_for = json.loads(file.read_text())["weights_fingerprint"]
        assert made_for == read_description(starter.STARTER_FILE)["fingerprint"]


@pytest.fixture(scope="module")
def recipe():
    """The script that makes the packaged files."""
    file = Path(__file__).parents[2] / ".ci/starter.py"
    if not file.is_file():
        pytest.skip("the script that makes the starter is no part of this copy")
    spec = importlib.util.spec_from_file_location("starter_recipe", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_taught_labels_are_the_mean_of_the_label_and_the_teachers_mean_map(recipe, tmp_path):
    options = SimulationOptions(train_chips=2, test_chips=0, chip_size=64)
    plain = list(SimulatedChips(options))
    teachers = [load_network(starter.STARTER_FILE) for _ in range(2)]
    teachers[1].segmentation_head.bias.data += 30.0
    taught = recipe.TaughtChips(options, teachers)
    alone = recipe.TaughtChips(options, teachers[:1])
    prints = {one.fingerprint for one in (taught, alone, SimulatedChips(options))}
    assert len(prints) == 3
    write_simulated(taught, tmp_path / "taught")
    archive = Archive.open(tmp_path / "taught")
    one_view = InferenceOptions(views=("identity",), precision="float32")
    names = [chip.chip_id for chip in plain]
    maps = [
        [one.agb_mg_per_ha for one in predict_chips(each, names, archive.read_chip, one_view)]
        for each in teachers
    ]
    for chip, first, second in zip(plain, *maps, strict=True):
        expected = chip.agb_mg_per_ha / 2 + (first + second) / 4
        found = archive.read_chip(chip.chip_id)
        np.testing.assert_allclose(found.agb_mg_per_ha, expected, atol=0.02)
        np.testing.assert_array_equal(found.images["s2"], chip.images["s2"])
