"""The command line on object storage: what a user of a bucket types and reads."""

import numpy as np
import pytest

from biomassters.chips.archive.writer import write_archive
from biomassters.chips.chip import Chip
from biomassters.chips.store.reader import ChipStore
from biomassters.io import storage

pytestmark = pytest.mark.slow


def made_chip(number):
    random = np.random.default_rng([number])
    s1_db = random.normal(-12, 3, (12, 4, 32, 32)).astype(np.float32)
    s2 = random.integers(1, 5000, (12, 11, 32, 32)).astype(np.uint16)
    agb = random.gamma(1, 60, (32, 32)).astype(np.float32)
    return Chip(f"{number:08x}", "train", {"s1": s1_db, "s2": s2}, np.ones((12, 2), bool), agb)


@pytest.fixture
def url(s3_access, tmp_path):
    write_archive(tmp_path / "archive", map(made_chip, range(5)), progress=False)
    s3_access.upload("command-line", tmp_path / "archive", "archive/")
    return "s3://command-line"


def run(kedro, pipeline, *parameters):
    return kedro("run", "--env", "test", "--pipelines", pipeline, "--params", ",".join(parameters))


def test_from_a_bucket_to_a_bucket(kedro, project, url):
    result = run(
        kedro, "data_engineering", f"raw_root={url}/archive", f"chip_store={url}/chips.zarr"
    )
    assert result.returncode == 0, result.stderr
    assert len(ChipStore(f"{url}/chips.zarr").split("train")) == 5
    assert not (project / "data/05_model_input").exists()
    assert {name.split("/")[0] for name in storage.listing(url)} == {"archive", "chips.zarr"}
    refused(run(kedro, "training", f"chip_store={url}/none"), "no finished chip store at s3://")


@pytest.mark.parametrize(
    ("pipeline", "parameters", "sentence"),
    [
        ("data_engineering", "raw_root={url}/none", "set raw_root to the URL"),
        ("data_engineering", "raw_root=s3://no-such/x", "no such bucket, 404"),
        # What lies on this machine is looked at before anything is asked of object storage.
        ("prediction", "prediction_root={url}/none", "final_weights is not there"),
        ("prediction", "prediction_root=nowhere", "set prediction_root to the folder"),
        ("simulation", "raw_root={url}/new", "simulation can't write to"),
        ("acquisition", "raw_root={url}/new", "is a URL, but this needs a folder"),
    ],
)
def test_wrong_places_get_one_sentence(kedro, url, pipeline, parameters, sentence):
    refused(run(kedro, pipeline, parameters.format(url=url)), sentence)


def refused(result, sentence):
    assert result.returncode == 1
    _, found, said = result.stderr.partition("Error: ")
    assert found
    assert sentence in said
    assert "Traceback" not in result.stderr
