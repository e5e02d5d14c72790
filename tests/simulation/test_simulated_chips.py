import hashlib
import json

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from biomassters.chips.archive.archive import Archive
from biomassters.errors import BadInputError
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import (
    SimulatedChips,
    chip_name,
    simulate_chip,
    write_simulated,
)

SMALL = SimulationOptions(train_chips=2, test_chips=1, chip_size=32)


def _same(a, b):
    np.testing.assert_array_equal(a.images["s1"], b.images["s1"])
    np.testing.assert_array_equal(a.images["s2"], b.images["s2"])
    np.testing.assert_array_equal(a.present, b.present)
    np.testing.assert_array_equal(a.agb_mg_per_ha, b.agb_mg_per_ha)
    assert (a.chip_id, a.split) == (b.chip_id, b.split)


def test_a_chip_does_not_depend_on_what_was_made_before():
    alone = simulate_chip(SMALL, 1)
    _same(alone, list(SimulatedChips(SMALL))[1])
    _same(alone, simulate_chip(SMALL, 1))


def test_more_chips_leave_the_first_as_they_are():
    more = SMALL.model_copy(update={"train_chips": 5})
    _same(simulate_chip(SMALL, 0), simulate_chip(more, 0))


def test_another_seed_or_index_is_another_chip():
    first = simulate_chip(SMALL, 0)
    for other in (
        simulate_chip(SMALL, 1),
        simulate_chip(SMALL.model_copy(update={"seed": 2}), 0),
    ):
        assert other.chip_id != first.chip_id
        assert (other.agb_mg_per_ha != first.agb_mg_per_ha).mean() > 0.3


def test_train_comes_first_and_test_has_no_label():
    chips = list(SimulatedChips(SMALL))
    assert len(chips) == len(SimulatedChips(SMALL)) == 3
    assert [chip.split for chip in chips] == ["train", "train", "test"]
    assert [chip.agb_mg_per_ha is None for chip in chips] == [False, False, True]
    assert all(chip.georeference is None for chip in chips)


@pytest.mark.parametrize("size", [32, 96])
def test_any_multiple_of_32(size):
    chip = simulate_chip(SMALL.model_copy(update={"chip_size": size}), 0)
    assert chip.shape == (size, size)
    assert chip.images["s1"].dtype == np.float32
    assert chip.images["s2"].dtype == np.uint16
    assert chip.agb_mg_per_ha.dtype == np.float32


def test_months_without_an_image_hold_nothing():
    for index in range(12):
        options = SMALL.model_copy(update={"train_chips": 12})
        chip = simulate_chip(options, index)
        assert chip.present[:, 0].all()
        assert not chip.images["s2"][~chip.present[:, 1]].any()
        assert all(chip.images["s2"][month].any() for month in np.flatnonzero(chip.present[:, 1]))


def test_nothing_missing_on_request():
    chip = simulate_chip(SMALL.model_copy(update={"missing_images": False}), 0)
    assert chip.present.all()
    assert (chip.images["s1"] != -9999).all()
    assert all(chip.seen("s2", month).all() for month in range(12))


def test_names_are_eight_hexadecimal_digits_without_a_double():
    names = {chip_name(7, index) for index in range(20_000)}
    assert len(names) == 20_000
    assert all(len(name) == 8 and int(name, 16) >= 0 for name in names)


def test_the_fingerprint_follows_the_options():
    first = SimulatedChips(SMALL).fingerprint
    assert first == SimulatedChips(SimulationOptions(**SMALL.model_dump())).fingerprint
    for name, value in {"seed": 5, "cloudiness": 0.5, "test_chips": 0}.items():
        changed = SMALL.model_copy(update={name: value})
        assert SimulatedChips(changed).fingerprint != first


def test_an_archive_is_written_once_and_again_when_an_option_changes(tmp_path):
    root = tmp_path / "simulated"
    assert write_simulated(SimulatedChips(SMALL), root)
    chip = simulate_chip(SMALL, 0)
    read = Archive.open(root).read_chip(chip.chip_id)
    np.testing.assert_array_equal(read.images["s2"], chip.images["s2"])
    np.testing.assert_array_equal(read.agb_mg_per_ha, chip.agb_mg_per_ha)
    assert not write_simulated(SimulatedChips(SMALL), root)
    changed = SimulatedChips(SMALL.model_copy(update={"seed": 5}))
    assert write_simulated(changed, root)
    assert json.loads((root / "simulation.json").read_text())["fingerprint"] == changed.fingerprint


def test_a_folder_of_someone_elses_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(BadInputError, match="not generated"):
        write_simulated(SimulatedChips(SMALL), tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("size", [100, 31, 0, -32])
def test_a_size_that_the_network_cannot_take_is_refused(size):
    with pytest.raises(BadInputError, match="chip_size"):
        SimulationOptions.model_validate({"chip_size": size})


def test_a_misspelt_option_is_refused():
    with pytest.raises(BadInputError, match="trian_chips"):
        SimulationOptions.model_validate({"trian_chips": 3})


def test_bytes_do_not_depend_on_the_number_of_cores():
    made = set()
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            chip = simulate_chip(SimulationOptions(), 200)  # in which one count was another
        made.add(hashlib.sha256(chip.images["s2"].tobytes()).hexdigest())
    assert len(made) == 1
