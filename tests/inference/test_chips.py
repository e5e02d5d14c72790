import numpy as np
import pytest
import torch

from biomassters.chips.chip import Chip
from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.inference.chips import (
    attention_of_split,
    batch_of_chip,
    month_weights,
    predict_chips,
    predict_split,
)
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import Part
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions

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
    chip.images["s1"][:, :, :] = np.random.default_rng(0).normal(
        -1200, 100, chip.images["s1"].shape
    )
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
    assert len(batch.images["s1"]) == len(batch.images["s2"]) == chip.month_mask.sum()


def empty_chip(size, present):
    return Chip(
        "lonely",
        "test",
        {
            "s1": np.full((12, 4, size, size), -9999.0, np.float32),
            "s2": np.zeros((12, 11, size, size), np.uint16),
        },
        np.full((12, 2), present),
    )


def test_a_chip_without_images_is_named():
    with pytest.raises(BadInputError, match="Chip lonely has no image of any month"):
        batch_of_chip(empty_chip(32, False))


def test_a_size_that_the_network_cannot_take_is_refused():
    with pytest.raises(BadInputError, match="divisible by 32"):
        batch_of_chip(empty_chip(40, True))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    options = NetworkOptions(decoder_channels=(16, 16, 8, 8, 8))
    return AgbNet(options, BandScaling.reference()).eval()


def images(months, size=32):
    generator = torch.Generator().manual_seed(months)
    s1 = torch.randint(-2500, 0, (months, 4, size, size), generator=generator, dtype=torch.int16)
    s2 = torch.randint(0, 4000, (months, 11, size, size), generator=generator).to(torch.uint16)
    return {"s1": s1, "s2": s2}


def test_weights_of_a_chips_months_sum_to_one_at_every_level(network):
    of_months = images(7)
    chip_of_month = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    levels = month_weights(network, Part(of_months, chip_of_month, 2))
    assert [tuple(weights.shape) for weights in levels] == [(2, 12)] * 5
    for weights in levels:
        np.testing.assert_allclose(weights.sum(1), [1, 1], rtol=1e-5)
        assert (weights[0, :3] > 0).all()
        assert (weights[0, 3:] == 0).all()
        assert (weights[1, 4:] == 0).all()


def test_a_month_that_stands_out_is_what_the_pooling_uses(network):
    """Pooling with the weights gives the pooled features of the deepest level."""
    of_months = images(4)
    chip_of_month = torch.zeros(4, dtype=torch.int64)
    kept = []
    handle = network.attn[-1].register_forward_hook(lambda _, given, got: kept.append((given, got)))
    with torch.no_grad():
        network(of_months, chip_of_month, 1)
    handle.remove()
    levels = month_weights(network, Part(of_months, chip_of_month, 1))
    (features, _), pooled = kept[0]
    expected = (features[:, :, 0, 0] * levels[-1][0, :4, None]).sum(0)
    torch.testing.assert_close(pooled[0, :, 0, 0], expected)


def test_attention_of_a_split_has_a_row_for_each_chip_level_and_month(store, new_small_network):
    split = store.split("train")
    found = attention_of_split(new_small_network(), split, range(3), OPTIONS)
    assert list(found) == ["chip_id", "stride", "month", "weight", "has_s2"]
    sums = found.groupby(["chip_id", "stride"])["weight"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    for index in range(3):
        rows = found[(found.chip_id == split.chip_ids[index]) & (found.stride == 32)]
        present = split.present[index]
        assert rows.month.tolist() == np.flatnonzero(present.any(axis=1)).tolist()
        assert rows.has_s2.tolist() == present[rows.month, 1].tolist()
