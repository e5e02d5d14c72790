"""The functions that Python users begin with, their examples, and their page."""

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

import biomassters
from biomassters import api, load_network, map_region, predict_chip
from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.inference.chips import predict_chips
from biomassters.inference.options import InferenceOptions
from biomassters.io.files import RowJournal
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import save_network
from biomassters.simulation.options import RegionSimulationOptions, SimulationOptions
from biomassters.simulation.simulated_chips import simulate_chip
from biomassters.simulation.simulated_region import SimulatedRegion, write_region
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel

PAGE = Path(__file__).parents[1] / "docs/how_to/python.md"
WEIGHTS = Path("data/06_models/simulated/weights.safetensors")
ARCHIVE = Path("data/01_raw/simulated")
REGION = Path("data/01_raw/simulated_region")
INTERVALS = IntervalModel(0.9, (50.0,), (-10.0, -20.0), (15.0, 30.0), (100, 100), 10)
ERRORS = ErrorModel(
    (50.0,), (0.0, 0.0), (10.0, 20.0), (0.0, 20.0), (1.0, 0.0), 1.0, (0.25,) * 4, 0.9, 10
)


@pytest.fixture(scope="module")
def project(tmp_path_factory, one_thread) -> Path:
    """What `kedro run` and `region_simulation` leave, small."""
    folder = tmp_path_factory.mktemp("project")
    options = SimulationOptions(train_chips=1, test_chips=1, chip_size=64)
    write_archive(folder / ARCHIVE, [simulate_chip(options, i) for i in (0, 1)], progress=False)
    region = RegionSimulationOptions(width=96, height=64, months=(8, 9))
    write_region(SimulatedRegion(region), folder / REGION)
    (folder / WEIGHTS).parent.mkdir(parents=True)
    torch.manual_seed(1)
    shape = NetworkOptions(
        backbone="tf_mobilenetv3_small_minimal_100", decoder_channels=(8, 8, 8, 8, 8)
    )
    network = AgbNet(shape, BandScaling.reference()).eval()
    with torch.no_grad():
        network.segmentation_head.weight.mul_(100.0)
        network.segmentation_head.bias.add_(80.0)
    trained_on = {"simulated": True, "dataset": "simulated", "chips": 1}
    save_network(network, folder / WEIGHTS, {"chip_size": 64, "trained_on": trained_on})
    told = json.loads((folder / WEIGHTS).with_suffix(".json").read_text())
    models = {"intervals": INTERVALS.to_dict(), "errors": ERRORS.to_dict(),
              "weights_fingerprint": told["fingerprint"]}  # fmt: skip
    (folder / WEIGHTS).with_name("uncertainty.json").write_text(json.dumps(models))
    return folder


@pytest.fixture(autouse=True)
def _in_the_project(project, monkeypatch):
    monkeypatch.chdir(project)


@pytest.fixture
def network():
    return load_network(WEIGHTS, device="cpu", views=["identity"])


@pytest.fixture
def chip():
    archive = Archive.open(ARCHIVE)
    (chip_id,) = archive.chip_ids("test")
    return archive.read_chip(chip_id)


# ---- Import


def test_the_package_alone_is_cheap():
    code = (
        "import biomassters, sys\n"
        "assert biomassters.__version__\n"
        "assert not {'torch', 'numpy', 'kedro', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_has_what_it_names():
    assert all(getattr(biomassters, name).__doc__ for name in biomassters.__all__)
    assert not hasattr(biomassters, "predict_chips")


# ---- Chips


def test_a_chip_of_files_or_arrays_is_mapped_as_an_archive_is(network, chip):
    options = InferenceOptions(device="cpu", views=("identity",))
    (expected,) = predict_chips(network.weights.network, [chip.chip_id], lambda _: chip, options)
    of_arrays = predict_chip(network, chip.images)
    files = {
        sensor: {
            int(path.stem[-2:]): path
            for path in ARCHIVE.rglob(f"{chip.chip_id}_{sensor.upper()}_*.tif")
        }
        for sensor in ("s1", "s2")
    }
    of_files = predict_chip(network, files)
    for found in (of_arrays, of_files):
        assert np.array_equal(found.agb, expected.agb_mg_per_ha)
        assert found.agb.dtype == np.float32
    lower, upper = INTERVALS.bounds(expected.agb_mg_per_ha)
    assert np.array_equal(of_arrays.lower, lower)
    assert np.array_equal(of_arrays.upper, upper)


def test_nan_and_a_month_left_out_are_no_data(network, chip):
    months = [0, 9]
    s2 = chip.images["s2"].astype(float)
    some = {
        "s1": {month: chip.images["s1"][month] for month in months},
        "s2": {month: s2[month] for month in months},
    }
    year = {"s1": np.full(chip.images["s1"].shape, np.nan), "s2": np.full(s2.shape, np.nan)}
    for sensor, images in year.items():
        images[months] = [some[sensor][month] for month in months]
    assert np.array_equal(predict_chip(network, some).agb, predict_chip(network, year).agb)


def test_without_a_calibration_there_are_no_bounds(tmp_path, chip, caplog):
    for path in (WEIGHTS, WEIGHTS.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    network = load_network(tmp_path / WEIGHTS.name, device="cpu", views=["identity"])
    for _ in range(2):
        found = predict_chip(network, chip.images)
        assert found.lower is None
        assert found.upper is None
    assert caplog.text.count("The map gets no intervals") == 1


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ({}, "have no pixels"),
        ({"s3": np.zeros((12, 4, 64, 64))}, "There is no sensor 's3'; choose from s1 and s2"),
        ({"s1": np.zeros((3, 4, 64, 64))}, "has 3 months instead of 12"),
        ({"s1": {12: np.zeros((4, 64, 64))}}, "There is no month 12 of Sentinel-1"),
        ({"s1": {"June": np.zeros((4, 64, 64))}}, "There is no month 'June'"),
        ({"s1": {0: np.zeros((3, 64, 64))}}, r"has the shape \[3, 64, 64\]: give \[4, height"),
        (
            {"s1": {0: np.zeros((4, 64, 64))}, "s2": {0: np.zeros((11, 32, 64))}},
            "have 32 x 64 and 64 x 64 pixels",
        ),
        ({"s1": {0: np.full((4, 64, 64), np.nan)}}, "has no image of any month"),
        ({"s1": {0: np.full((4, 40, 64), -10.0)}}, "40 x 64"),
        ({"s1": {0: np.full((4, 64, 64), 0.1)}}, "looks like linear power, expected dB"),
        ({"s2": {0: np.full((11, 64, 64), 0.2)}}, "looks like reflectance 0-1"),
        ({"s1": {0: "missing.tif"}}, "missing.tif"),
    ],
)  # fmt: skip
def test_wrong_images_get_one_sentence(network, images, sentence):
    with pytest.raises(BadInputError, match=sentence):
        predict_chip(network, images)


def test_a_wrong_option_or_calibration_is_refused():
    with pytest.raises(BadInputError, match="batch: there is no such option"):
        load_network(WEIGHTS, batch=3)
    with pytest.raises(BadInputError, match=r"There is no file none\.json"):
        load_network(WEIGHTS, uncertainty="none.json")


# ---- Regions


def test_a_region_is_mapped_and_an_interrupted_map_goes_on(network, tmp_path, monkeypatch):
    whole = map_region(network, REGION, tmp_path / "whole.tif", window=32)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.tif"]
    assert whole["images_simulated"]

    append, kept = RowJournal.append, []

    def stop_at_the_second(journal, key, value):
        if kept:
            raise KeyboardInterrupt
        append(journal, key, value)
        kept.append(key)

    place = tmp_path / "stopped.tif"
    with monkeypatch.context() as patched:
        patched.setattr(RowJournal, "append", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            map_region(network, REGION, place, window=32)
    assert not place.exists()
    noted = []
    with monkeypatch.context() as patched:
        patched.setattr(
            RowJournal, "append", lambda *given: noted.append(given[1]) or append(*given)
        )
        again = map_region(network, REGION, place, window=32)
    assert noted
    assert not set(noted) & set(kept)
    assert again["biomass_mg"] == whole["biomass_mg"]
    with rasterio.open(place) as one, rasterio.open(tmp_path / "whole.tif") as other:
        assert one.descriptions == ("AGB", "AGB_lower", "AGB_upper", "months_used")
        agb, lower, upper, _ = one.read()
        assert np.array_equal(one.read(), other.read())
    assert (lower <= agb).all()
    assert (agb < upper).all()


def test_a_map_that_exists_is_kept(network, tmp_path):
    place = tmp_path / "map.tif"
    place.write_text("mine")
    with pytest.raises(BadInputError, match="give overwrite=True to replace it"):
        map_region(network, REGION, place)
    assert place.read_text() == "mine"
    map_region(network, REGION, place, overwrite=True)
    assert rasterio.open(place).count == 4


# ---- What is written about them


def test_the_examples_run(project):
    failed, tried = doctest.testmod(api)
    assert (failed, tried) == (0, 13)


def test_the_page_runs_as_written(capsys):
    found: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("simulated ")
    assert lines[1].endswith("Mg/ha in a chip of 64 x 64 pixels")
    assert lines[2].endswith("Mg/ha between the bounds of a pixel")
    assert re.fullmatch(r"[\d,]+ Mg on 61 ha", lines[3])
