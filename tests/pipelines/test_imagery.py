"""The page docs/imagery.md by the real command line, small: region → scenes → cube → map."""

import json

import numpy as np
import pandas as pd
import pytest
import rasterio
import zarr

pytestmark = pytest.mark.slow
BOUNDS = "imagery.bounds=400000/6899040/401280/6900000,imagery.bounds_crs=EPSG:3067"
PARAMETERS = f"{BOUNDS},imagery.year=2020,imagery.catalogue=data/01_raw/test_scenes/catalogue.yml"


@pytest.fixture(scope="module")
def folder(project, kedro):
    for pipeline in ("region_simulation", "scene_simulation"):
        result = kedro("run", "--env", "test", "--pipelines", pipeline)
        assert result.returncode == 0, result.stdout + result.stderr
    result = kedro("run", "--env", "test", "--pipelines", "imagery", "--params", PARAMETERS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "not compared with training chips" in result.stderr
    return project / "data/02_intermediate/test/imagery"


def test_everything_that_the_page_names_is_there(folder):
    assert {path.name for path in folder.iterdir()} == {
        "cube.zarr", "cube.zarr.check.json", "cube.zarr.html", "cube.zarr.items.json",
        "cube.zarr.png", "cube.zarr.record.json", "cube.zarr.scenes.csv", "cube.zarr.scratch",
    }  # fmt: skip
    record = json.loads((folder / "cube.zarr.record.json").read_text())
    assert record["year"] == "September 2020 - August 2021"
    assert [month["name"] for month in record["months"]] == ["September", "June"]
    table = pd.read_csv(folder / "cube.zarr.scenes.csv")
    assert {"used", "spare"} >= set(table["use"])
    page = (folder / "cube.zarr.html").read_text()
    assert "The images were simulated." in page
    assert "S2_00_0" in page
    assert "http" not in page.replace("http-equiv", "")  # it fetches nothing


def test_the_cube_is_mapped(folder, project, kedro):
    from biomassters.chips.scaling import BandScaling
    from biomassters.network.agb_net import AgbNet
    from biomassters.network.options import NetworkOptions
    from biomassters.network.weights import save_network

    network = AgbNet(NetworkOptions(decoder_channels=(8,) * 5), BandScaling.reference())
    weights = project / "weights.safetensors"
    save_network(network.eval(), weights, {"chip_size": 64})
    parameters = f"weights={weights},region_root={folder / 'cube.zarr'},region_map=data/agb.tif"
    result = kedro("run", "--env", "test", "--pipelines", "mapping", "--params", parameters)
    assert result.returncode == 0, result.stdout + result.stderr
    with rasterio.open(project / "data/agb.tif") as file:
        assert file.shape == (96, 128)
        assert file.tags()["images_simulated"] == "yes"
        assert np.isfinite(file.read(1)).mean() > 0.5


def test_a_cube_is_not_made_twice_by_chance(folder, kedro):
    before = (folder / "cube.zarr" / "zarr.json").stat().st_mtime_ns
    result = kedro("run", "--env", "test", "--pipelines", "imagery", "--params", PARAMETERS)
    assert result.returncode == 1
    assert "add '--params imagery.overwrite=true'" in result.stderr.strip().splitlines()[-1]
    assert (folder / "cube.zarr" / "zarr.json").stat().st_mtime_ns == before


def test_a_damaged_scene_is_said_by_the_exit_status(folder, project, kedro):
    record = json.loads((folder / "cube.zarr.record.json").read_text())
    best = record["months"][0]["s2"]["scenes"][0]["id"]
    file = project / "data/01_raw/test_scenes" / best / "B08.tif"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 3])
    cube = "imagery_cube=data/damaged/cube.zarr"
    try:
        result = kedro(
            "run", "--env", "test", "--pipelines", "imagery", "--params", f"{PARAMETERS},{cube}"
        )
    finally:
        file.write_bytes(content)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert f"The cube is complete, but {best} could not be read" in last
    made = project / "data/damaged"
    assert (made / "cube.zarr.html").exists()
    group = zarr.open_group(str(made / "cube.zarr"), mode="r")
    assert np.asarray(group["present"])[0].all()


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("imagery.year=2020", "imagery.area is missing"),
        (BOUNDS, "imagery.year is missing"),
        (f"{PARAMETERS},imagery.area=nowhere.gpkg", "there is no file nowhere.gpkg"),
        (f"{BOUNDS},imagery.year=2199", "lies in the future"),
        (f"{BOUNDS},imagery.year=2020,imagery.catalogue=mars", "There is no catalogue mars"),
    ],
)
def test_what_cannot_be_ends_in_a_sentence(kedro, parameters, sentence):
    cube = "imagery_cube=data/none/cube.zarr"
    result = kedro(
        "run", "--env", "test", "--pipelines", "imagery", "--params", f"{parameters},{cube}"
    )
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
