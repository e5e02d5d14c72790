"""A cube beside the chips of a training: units that differ are named."""

import numpy as np
import pytest
import zarr
from tests.imagery.conftest import imagery_options, made_cube

from biomassters.chips.bands import BAND_NAMES, S1, S2
from biomassters.chips.store.writer import write_store
from biomassters.imagery.training_check import compare_with_training, findings, image_medians
from biomassters.simulation.options import RegionSimulationOptions, SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips
from biomassters.simulation.simulated_region import SimulatedRegion


class Simulated:
    """Simulated chips as the writer of a store takes them."""

    def __init__(self, options):
        self._chips = {chip.chip_id: chip for chip in SimulatedChips(options)}

    def splits(self):
        train = [name for name, chip in self._chips.items() if chip.split == "train"]
        return {"train": train}

    def read_chip(self, chip_id):
        return self._chips[chip_id]

    def signature(self, chip_id):
        return chip_id


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A packed archive of simulated chips."""
    place = tmp_path_factory.mktemp("check") / "chips.zarr"
    options = SimulationOptions(train_chips=12, test_chips=1, chip_size=64, missing_images=False)
    write_store(place, Simulated(options))
    return place


@pytest.fixture
def cube(tmp_path):
    """A cube of another simulated region, every month of it."""
    region = SimulatedRegion(
        RegionSimulationOptions(width=128, height=128, seed=7, missing_images=False)
    )
    tile = next(iter(region.tiles()))
    group = zarr.create_group(str(tmp_path / "cube.zarr"))
    for name, values in (
        ("s1", tile.images["s1"]),
        ("s2", tile.images["s2"]),
        ("present", np.ones((12, 2), bool)),
    ):
        array = group.create_array(name, shape=values.shape, dtype=values.dtype)
        array[:] = values
    return tmp_path / "cube.zarr"


def sentences(cube, store):
    return findings(compare_with_training(str(cube), str(store)))


def test_a_cube_like_the_chips_gives_no_word(cube, store):
    table = compare_with_training(str(cube), str(store))
    assert len(table) == 12 * 14
    assert sentences(cube, store) == []


def test_an_offset_left_in_is_named(cube, store):
    array = zarr.open_group(str(cube), mode="r+")["s2"]
    values = np.asarray(array)
    values[:, :-1] += 1000
    array[:] = values
    said = sentences(cube, store)
    blue = next(one for one in said if one.startswith("B2 is"))
    assert "counts above the training data in" in blue
    assert any("an offset of 1,000 was not taken off" in one for one in said)


def test_an_offset_taken_off_twice_is_named(cube, store):
    array = zarr.open_group(str(cube), mode="r+")["s2"]
    values = np.asarray(array)
    values[:, :-1] = np.maximum(values[:, :-1], 1001) - 1000
    array[:] = values
    assert any("B8 is" in one and "below" in one for one in sentences(cube, store))


def test_another_unit_of_backscatter_is_named(cube, store):
    before = compare_with_training(str(cube), str(store))
    array = zarr.open_group(str(cube), mode="r+")["s1"]
    values = np.asarray(array)
    array[:] = np.where(values == S1.fill, values, values + 800)
    after = compare_with_training(str(cube), str(store))
    moved = after["cube_median"] - before["cube_median"]
    assert np.allclose(moved[after["band"].isin(S1.bands)], 8)
    (said,) = [one for one in findings(after) if one.startswith("VV_asc is ")]
    assert "dB above the training data" in said


def test_without_a_store_the_log_says_so(cube, tmp_path, caplog):
    assert compare_with_training(str(cube), str(tmp_path / "nowhere.zarr")) is None
    assert "not compared with training chips" in caplog.text


def test_medians_leave_out_what_is_not_seen():
    s1 = np.full((len(S1.bands), 10, 10), S1.fill, np.int16)
    s1[0, :8] = -1000
    s2 = np.full((len(S2.bands), 10, 10), 300, np.uint16)
    s2[-1] = 0
    s2[:-1, :2], s2[-1, 5:] = 8000, 90
    s2[:, 2:3] = 0
    medians = dict(zip(BAND_NAMES, image_medians(s1, s2), strict=True))
    assert medians["VV_asc"] == -10
    assert np.isnan(medians["VH_asc"])
    assert np.isnan(medians["B2"])  # 40 clear pixels are too few
    s2[-1] = 0
    assert image_medians(s1, s2)[BAND_NAMES.index("B2")] == 300


def test_the_pipeline_compares_what_it_made(year, catalogue_server, tmp_path, store):
    """Constant 300 counts and more are no forest: something is said."""
    made_cube(imagery_options(f"{catalogue_server.url}/stac"), tmp_path)
    assert sentences(tmp_path / "cube.zarr", store)
