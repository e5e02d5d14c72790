"""The weights that come with the package."""

import json

from biomassters.network import starter
from biomassters.network.weights import load_network, read_description
from biomassters.network.window import smallest_window


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
