import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network import AgbNet, NetworkOptions, load_network, read_description, save_network

TINY = NetworkOptions(backbone="lcnet_035", decoder_channels=(12, 10, 8, 8, 6))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return AgbNet(TINY, BandScaling.reference()).eval()


@pytest.fixture
def saved(network, tmp_path):
    path = tmp_path / "weights" / "best.safetensors"
    save_network(network, path, {"data_fingerprint": "abc", "recipe": {"epochs": 3}})
    return path


def _predict(network):
    x = torch.linspace(0, 1, 3 * 15 * 32 * 32).reshape(3, 15, 32, 32)
    with torch.no_grad():
        return network.forward_scaled(x, torch.tensor([0, 0, 1]))


def test_what_is_saved_is_loaded(network, saved):
    loaded = load_network(saved)
    assert not loaded.training
    assert loaded.options == TINY
    # The tensors are the same to the bit; another memory format may choose another kernel.
    torch.testing.assert_close(_predict(loaded), _predict(network), rtol=1e-4, atol=1e-5)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def test_loaded_weights_can_be_trained(saved):
    loaded = load_network(saved).train()
    _ = loaded.forward_scaled(torch.rand(2, 15, 64, 64), torch.tensor([0, 1])).sum().backward()
    assert loaded.segmentation_head.weight.grad is not None
    assert not loaded.decoder.blocks[4].attention1.attention.sSE[0].weight.requires_grad


def test_the_safetensors_library_reads_our_file(network, saved):
    tensors = load_file(saved)
    assert tensors.keys() == network.state_dict().keys()


def test_channels_last_weights_are_saved_in_plain_order(network, tmp_path):
    path = tmp_path / "a.safetensors"
    copied = load_network_after_saving(network, path).to(memory_format=torch.channels_last)
    save_network(copied, tmp_path / "b.safetensors")
    torch.testing.assert_close(_predict(load_network(tmp_path / "b.safetensors")), _predict(copied))


def load_network_after_saving(network, path):
    save_network(network, path)
    return load_network(path)


def test_description_says_what_rebuilds_the_network(saved):
    description = read_description(saved)
    assert description["network"]["backbone"] == "lcnet_035"
    assert description["bands"][0] == "VV_asc"
    assert description["scaling"] == BandScaling.reference().to_dict()
    assert description["data_fingerprint"] == "abc"
    assert description["recipe"] == {"epochs": 3}
    assert all(
        name.startswith("decoder.blocks.4.attention1.")
        for name in description["weights_never_called"]
    )


def test_nothing_but_the_pair_is_left(saved):
    assert sorted(path.name for path in saved.parent.iterdir()) == ["best.json", "best.safetensors"]


def test_saving_again_replaces_the_pair(network, saved):
    save_network(network, saved, {"recipe": "other"})
    assert read_description(saved)["recipe"] == "other"
    load_network(saved)


def test_scaling_travels_with_the_weights(tmp_path):
    reference = BandScaling.reference()
    other = BandScaling(
        {name: value - 1 for name, value in reference.minimum.items()}, reference.maximum
    )
    save_network(AgbNet(TINY, other), tmp_path / "w.safetensors")
    offset, _ = other.offset_and_range()
    loaded = load_network(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(loaded.scaler.offset.numpy(), offset)
    assert loaded.scaling == other


def _edit_json(path, **changes):
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(json.loads(beside.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "culprit"),
    [
        (lambda path: path.unlink(), "best.safetensors is missing"),
        (lambda path: path.with_suffix(".json").unlink(), "best.json is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "best.safetensors is damaged"),
        (lambda path: path.write_text("hello"), "best.safetensors is damaged"),
        (lambda path: path.with_suffix(".json").write_text("{"), "best.json is not JSON"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "best.json does not describe"),
        (lambda path: _edit_json(path, version=99), "format version 99"),
        (lambda path: _edit_json(path, bands=["B1"]), "other bands"),
        (lambda path: _edit_json(path, recipe="mine"), "was not written with"),
    ],
)
def test_a_damaged_pair_is_refused_in_one_sentence(saved, damage, culprit):
    damage(saved)
    with pytest.raises(BadInputError, match=culprit) as caught:
        load_network(saved)
    assert "\n" not in str(caught.value)
