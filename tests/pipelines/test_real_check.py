"""Starter weights on a labelled archive, and what is refused, by the real command line."""

import json

import pytest

pytestmark = pytest.mark.slow
STARTER = "weights=starter,prediction_root=data/01_raw/test"


@pytest.fixture(scope="module")
def archive(project, kedro):
    size = "simulation.chip_size=96,simulation.train_chips=3,simulation.test_chips=1"
    done = kedro("run", "--env", "test", "--pipelines", "simulation", "--params", size)
    assert done.returncode == 0, done.stderr
    return project / "data/01_raw/test"


def test_the_starter_is_checked_and_maps(project, kedro, archive):
    done = kedro("run", "--env", "test", "--pipelines", "real_check", "--params", STARTER)
    assert done.returncode == 0, done.stderr
    folder = project / "data/08_reporting/test"
    scores = json.loads((folder / "real_check.json").read_text())
    assert len(scores["chips"]) == 3
    assert scores["correlation_per_chip_mean"] > 0.5  # it has learnt what it is for
    assert "3 labelled chips" in done.stderr
    assert (folder / "real_check.csv").read_text().count("\n") == 4
    assert (folder / "real_check.png").stat().st_size > 10_000
    page = (folder / "real_check.html").read_text()
    assert "absolute path" not in page
    assert str(project) not in page

    maps = f"{STARTER},predictions=data/maps"
    done = kedro("run", "--env", "test", "--pipelines", "prediction", "--params", maps)
    assert done.returncode == 0, done.stderr
    assert len(list((project / "data/maps").glob("*_agbm.tif"))) == 4


def test_what_can_not_be_is_said_in_a_sentence(project, kedro, archive):
    for label in (archive / "train_agbm").iterdir():
        label.unlink()
    done = kedro("run", "--env", "test", "--pipelines", "real_check", "--params", STARTER)
    assert done.returncode == 1
    assert "none of them has a label" in done.stderr.strip().splitlines()[-1]
    done = kedro("run", "--env", "test", "--pipelines", "training", "--params", "weights=starter")
    assert done.returncode == 1
    assert "set training.start_from_weights=starter" in done.stderr
