"""A region taken apart into scenes and composed again by ``imagery``: the same images."""

import numpy as np
import pytest
import rasterio
import zarr

from biomassters.errors import BadInputError
from biomassters.imagery.cube_plan import plan_cube
from biomassters.imagery.cube_writer import write_cube
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.search import plan_search
from biomassters.simulation.options import RegionSimulationOptions, SceneSimulationOptions
from biomassters.simulation.simulated_region import SimulatedRegion, write_region
from biomassters.simulation.simulated_scenes import write_scenes


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    options = RegionSimulationOptions(width=256, height=192, months=(0, 5, 9), seed=3)
    write_region(SimulatedRegion(options), folder / "region")
    write_scenes(folder / "region", folder / "scenes", SceneSimulationOptions())
    return folder


@pytest.fixture(scope="module")
def composed(region):
    x, y = 400_000, 6_900_000
    options = ImageryOptions(
        bounds=(x, y - 1920, x + 2560, y), bounds_crs="EPSG:3067", year=2020,
        catalogue=str(region / "scenes/catalogue.yml"),
    )  # fmt: skip
    choice = plan_cube(plan_search(options).run(), options, region)
    record = write_cube(choice, region / "cube.zarr", region, options)
    return zarr.open_group(str(region / "cube.zarr"), mode="r"), record


def halves(image):
    """What pixels of 20 m show of it."""
    even = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))
    return np.repeat(np.repeat(even, 2, axis=0), 2, axis=1)


def test_sentinel_2_within_a_count_where_a_scene_is_clear(region, composed):
    group, _ = composed
    for month in (0, 5, 9):
        path = region / f"region/S2_{month:02d}.tif"
        if not path.exists():
            continue
        with rasterio.open(path) as file:
            truth = file.read().astype(float)
        found = np.asarray(group["s2"][month]).astype(float)
        there = (truth[:10] > 0).all(axis=0)
        seen = there & (found[10] <= 50)
        assert seen.sum() > 0.75 * there.sum()
        for band in range(10):
            expected = halves(truth[band]) if band in (3, 4, 5, 7, 8, 9) else truth[band]
            assert np.abs(found[band] - expected)[seen].max() <= 1


def test_sentinel_1_within_a_fifth_of_a_db_of_the_mean_over_scenes(region, composed):
    group, _ = composed
    with rasterio.open(region / "region/S1_09.tif") as file:
        truth = file.read().astype(float) / 100
    found = np.asarray(group["s1"][9]) / 100
    known = (truth > -300) & (found > -300)
    assert known.mean() > 0.4
    assert np.abs(found - truth)[known].max() < 0.02
    assert ((truth > -300) == (found > -300)).mean() > 0.999


def test_traps_are_there_and_undone(composed):
    _, record = composed
    scenes = [scene for month in record["months"] for scene in month["s2"]["scenes"]]
    assert {scene["counts_taken_off"] for scene in scenes} == {0.0, 1000.0}
    assert record["simulated"]
    assert not record["lost"]


def test_what_was_not_simulated_is_left_alone(region, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.tif").touch()
    with pytest.raises(BadInputError, match="holds files that were not simulated"):
        write_scenes(region / "region", tmp_path / "mine", SceneSimulationOptions())
    with pytest.raises(BadInputError, match="holds no simulated region"):
        write_scenes(tmp_path / "mine", tmp_path / "scenes", SceneSimulationOptions())
