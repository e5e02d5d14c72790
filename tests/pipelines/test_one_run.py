"""Pipelines that name one place wait for each other when one command runs them."""

import json
import re
from importlib import import_module
from itertools import combinations
from pathlib import Path

import pytest
import rasterio
import yaml
from docs.site.reference import datasets
from kedro.framework.project import configure_project, pipelines
from tests.pipelines.test_imagery import BOUNDS, PARAMETERS
from tests.pipelines.test_mapping import weights
from tests.preflight.test_preflight import planned, said

from biomassters.datasets.paths import PlaceDataset
from biomassters.preflight.input_checks import check_cube

__all__ = ["weights"]
CONF = Path(__file__).parents[2] / "conf/base"
# Where something is written, and what is there once it is; a node may not take what it makes.
WRITTEN = {("imagery_cube", "imagery_place"), ("region_map", "region_map_place")}
# Brought by the user, or finished by an earlier command: an archive, a submission, training chips.
APART = {
    ("chip_store", "training_chips"),
    ("prediction_archive", "raw_archive"),
    ("prediction_archive", "raw_folder"),
    ("raw_archive", "raw_folder"),
    ("submission", "submission_file"),
}


def order(*names):
    pipeline = sum(
        (import_module(f"biomassters.pipelines.{one}").create_pipeline() for one in names[1:]),
        import_module(f"biomassters.pipelines.{names[0]}").create_pipeline(),
    )
    return [node.name for node in pipeline.nodes]


@pytest.mark.parametrize(
    ("names", "first", "then"),
    [
        ("mapping region_simulation", "region_simulation.simulate_region", "mapping.plan_map"),
        ("from_area scene_simulation", "scene_simulation.simulate_scenes", "imagery.find_scenes"),
        ("from_area", "imagery.compose_months", "mapping.plan_map"),
        ("scene_simulation region_simulation", "region_simulation.simulate_region",
         "scene_simulation.simulate_scenes"),
        ("mapping uncertainty", "uncertainty.calibrate_uncertainty", "mapping.write_map"),
        ("plots mapping", "mapping.write_map", "plots.combine_plots"),
        ("plots region_simulation", "region_simulation.draw_plots", "plots.combine_plots"),
        ("change mapping", "mapping.write_map", "change.compare_maps"),
    ],
)  # fmt: skip
def test_what_is_made_comes_before_what_takes_it(names, first, then):
    nodes = order(*names.split())
    assert nodes.index(first) < nodes.index(then)


def test_no_two_names_stand_for_one_place():
    """Kedro orders by name: of two names for one file it knows nothing."""
    places: dict[str, set[str]] = {}
    for name, entry in datasets().items():
        if entry["type"] and entry["place"] and not entry["type"].endswith(".SideFilesDataset"):
            places.setdefault(entry["place"], set()).add(name.partition("@")[0])
    pairs = {pair for names in places.values() for pair in combinations(sorted(names), 2)}
    assert pairs == WRITTEN | APART


def test_of_all_entries_only_those_of_one_name_are_transcoded():
    """What has an @ is there at least twice, or the @ says nothing."""
    names = [
        name for file in CONF.glob("catalog*.yml") for name in yaml.safe_load(file.read_text())
    ]
    stems = [name.partition("@")[0] for name in names if "@" in name]
    assert {stem for stem in stems if stems.count(stem) == 1} == set()
    assert {stem for stem in stems if stem in names} == set()


def test_a_map_of_images_that_are_still_being_made_is_refused():
    cube, images = PlaceDataset(filepath="data/cube.zarr"), PlaceDataset(filepath="data/region")
    given = {"imagery_cube": cube, "region_images": images}
    sentence = said(check_cube, planned("imagery", "mapping", **given))
    assert sentence.startswith("mapping would read data/region without waiting for the cube")
    assert "(data/cube.zarr): take '--pipelines from_area'" in sentence
    for allowed in (("from_area",), ("scene_simulation", "imagery"), ("mapping",)):
        assert said(check_cube, planned(*allowed, **given)) == ""


def test_every_pipeline_can_be_joined_with_its_neighbours():
    """No circle, and nothing made twice, in all that a place may need."""
    configure_project("biomassters")
    names = ["region_simulation", "scene_simulation", "from_area", "plots", "change", "uncertainty"]
    joined = sum((pipelines[name] for name in names[1:]), pipelines[names[0]])
    assert len(joined.nodes) == sum(len(pipelines[name].nodes) for name in names)


@pytest.mark.slow
def test_a_region_is_simulated_and_mapped_by_one_command(project, kedro, weights):
    places = "region_map=./data/one/agb.tif,calibration=data/none.json"
    names = "mapping,region_simulation"
    result = kedro("run", "--env", "test", "--pipelines", names, "--params", places)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"there is no \S*data/none\.json", " ".join(result.stderr.split()))
    with rasterio.open(project / "data/one/agb.tif") as file:
        assert file.shape == (96, 128)
    assert (project / "data/one/agb.qml").is_file()


@pytest.mark.slow
def test_scenes_images_and_map_come_from_one_command(project, kedro, weights):
    """The simulated region of the test before is taken apart, composed again, and mapped."""
    result = kedro("run", "--env", "test", "--params",
                   f"{PARAMETERS},region_map=data/two/agb.tif",
                   "--pipelines", "from_area,scene_simulation,region_simulation")  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    done = re.findall(r"\d+ of \d+  (\w[\w ]*?)  ", result.stderr)
    assert done.index("simulate scenes") < done.index("find scenes")
    assert done.index("compose months") < done.index("plan map")
    summary = json.loads((project / "data/two/agb.tif.summary.json").read_text())
    assert summary["images"].endswith("imagery/cube.zarr")


@pytest.mark.slow
def test_two_pipelines_that_do_not_know_each_other_are_refused(kedro, weights):
    result = kedro("run", "--env", "test", "--pipelines", "imagery,mapping", "--params",
                   f"{BOUNDS},imagery.year=2020,region_map=data/three/agb.tif,"
                   "imagery_cube=data/three/cube.zarr")  # fmt: skip
    assert result.returncode == 1
    assert "take '--pipelines from_area'" in result.stderr.strip().splitlines()[-1]
