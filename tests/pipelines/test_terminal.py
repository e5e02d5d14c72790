"""What a person sees of a run that fails, is stopped, or is told to log in another way."""

import signal

import pytest

pytestmark = pytest.mark.slow
RUN = ("run", "--env", "test")


def test_ctrl_c_ends_in_one_sentence_and_the_shells_code(kedro_in_terminal):
    shown = kedro_in_terminal(
        80,
        *(*RUN, "--pipelines", "simulation", "--params", "simulation.train_chips=2000"),
        env={"NO_COLOR": "1"},
        interrupt_at="writing the archive:",
    )
    assert shown.code == 128 + signal.SIGINT
    assert " ".join(line.strip() for line in shown.lines) == (
        "Interrupted during 'simulate forest': run the same command again; downloads, packing, "
        "training and mapping continue where they stopped."
    )
    assert "\33" not in shown.raw


def test_a_node_that_fails_says_so_once_and_last(project, kedro, kedro_in_terminal):
    """A folder where its file belongs, found in the middle. Then input that is missing."""
    made = kedro("run", "--env", "test", "--pipelines", "simulation,data_engineering")
    assert made.returncode == 0, made.stderr
    place = project / "data/04_feature/test/band_scaling.json"
    place.unlink()
    place.mkdir()
    (place / "something").write_text("else")
    failed = kedro("run", "--env", "test", "--pipelines", "data_engineering")
    lines = failed.stderr.splitlines()
    assert failed.returncode == 1
    assert lines[-1] == (
        "Error: data/04_feature/test/band_scaling.json can't be read or written (Is a directory): "
        "check the path, its permissions and the space on the disk, and run again."
    )
    assert failed.stderr.count("band_scaling.json") == 1
    assert "No nodes ran" not in failed.stderr
    assert "resume" not in failed.stderr

    shown = kedro_in_terminal(40, *RUN, "--pipelines", "uncertainty", env={"NO_COLOR": "1"})
    assert shown.code == 1
    said = " ".join(line.strip() for line in shown.lines)
    assert said.startswith("Error: ")
    assert said.count("Error") == 1
    assert all(len(line) <= 40 for line in shown.lines if "/" not in line)
    assert "\33" not in shown.raw


def test_another_logging_configuration_wins(kedro, tmp_path, monkeypatch):
    file = tmp_path / "logging.yml"
    file.write_text(
        "version: 1\ndisable_existing_loggers: false\n"
        "formatters: {own: {format: 'OWN %(levelname)s %(name)s %(message)s'}}\n"
        "handlers: {own: {class: logging.StreamHandler, formatter: own}}\n"
        "root: {handlers: [own], level: INFO}\n"
    )
    monkeypatch.setenv("KEDRO_LOGGING_CONFIG", str(file))
    done = kedro(*RUN, "--pipelines", "region_simulation")
    assert done.returncode == 0, done.stderr
    assert "OWN INFO biomassters.hooks 1 of 2  simulate region" in done.stderr
    assert "OWN INFO kedro.io.data_catalog Saving data to" in done.stderr
