import numpy as np
import pytest

from biomassters.chips.chip import Chip
from biomassters.errors import BadInputError
from biomassters.inference.chips import batch_of_chip, predict_chips, predict_split
from biomassters.inference.options import InferenceOptions

OPTIONS = InferenceOptions(views=("identity",), batch_size=2, loader_threads=1, device="cpu")


def test_a_chip_from_the_store_and_from_memory_gives_the_same_map(store, new_small_network):
    split = store.split("train")
    network = new_small_network().eval()
    chips = {name: split.read_chip(index) for index, name in enumerate(split.chip_ids[:3])}
    stored = list(predict_split(network, split, range(3), OPTIONS))
    anything = OPTIONS.model_copy(update={"check_ranges": False})  # these chips are noise
    direct = list(predict_chips(network, list(chips), chips.__getitem__, anything))
    for one, other in zip(stored, direct, strict=True):
        assert one.chip_id == other.chip_id
        np.testing.assert_allclose(one.agb_mg_per_ha, other.agb_mg_per_ha, atol=1e-4)


def test_an_archive_in_other_units_is_refused_before_anything_is_predicted(new_small_network):
    """Sentinel-1 in dB × 100, as mapping refuses it."""
    chip = empty_chip(32, True)
    chip.s1_db[:, :, :] = np.random.default_rng(0).normal(-1200, 100, chip.s1_db.shape)
    with pytest.raises(BadInputError, match=r"Chip lonely: S1 holds .*: divide it by 100"):
        predict_chips(new_small_network(), ["lonely"], {"lonely": chip}.__getitem__, OPTIONS)
    anyway = OPTIONS.model_copy(update={"check_ranges": False})
    maps = predict_chips(new_small_network(), ["lonely"], {"lonely": chip}.__getitem__, anyway)
    assert next(maps).chip_id == "lonely"


def test_a_chip_that_clouds_hide_is_named(new_small_network, caplog):
    chip = empty_chip(32, True)
    list(predict_chips(new_small_network(), ["lonely"], {"lonely": chip}.__getitem__, OPTIONS))
    assert caplog.text.count("Chip lonely has no cloud-free pixel in any month") == 1


def test_only_months_that_exist_are_packed(store):
    split = store.split("train")
    chip = split.read_chip(0)
    batch = batch_of_chip(chip)
    assert len(batch.s1) == len(batch.s2) == chip.month_mask.sum()


def empty_chip(size, present):
    return Chip(
        "lonely",
        "test",
        np.full((12, 4, size, size), -9999.0, np.float32),
        np.zeros((12, 11, size, size), np.uint16),
        np.full((12, 2), present),
    )


def test_a_chip_without_images_is_named():
    with pytest.raises(BadInputError, match="Chip lonely has no image of any month"):
        batch_of_chip(empty_chip(32, False))


def test_a_size_that_the_network_cannot_take_is_refused():
    with pytest.raises(BadInputError, match="divisible by 32"):
        batch_of_chip(empty_chip(40, True))
