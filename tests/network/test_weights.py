import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import load_network, read_description, save_network

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


def test_a_flipped_bit_in_the_numbers_is_refused(saved):
    whole = bytearray(saved.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(start, len(whole), (len(whole) - start) // 20):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadInputError, match=r"best\.safetensors is damaged"):
            load_network(saved)


@pytest.mark.parametrize(
    ("suffix", "value", "culprit"),
    [
        ("segmentation_head.weight", float("nan"), "NaN or infinity in segmentation_head.weight"),
        ("segmentation_head.bias", float("inf"), "NaN or infinity in segmentation_head.bias"),
        ("running_var", -1.0, r"a negative variance in .*running_var"),
    ],
)
def test_numbers_that_no_network_computes_with_are_refused(tmp_path, suffix, value, culprit):
    broken = AgbNet(TINY, BandScaling.reference())
    name = next(name for name in broken.state_dict() if name.endswith(suffix))
    tensor = broken.state_dict()[name]
    tensor[(0,) * tensor.ndim] = value
    save_network(broken, tmp_path / "w.safetensors")
    with pytest.raises(BadInputError, match=culprit):
        load_network(tmp_path / "w.safetensors")


def test_weights_from_before_the_fingerprint_are_read(network, saved):
    beside = saved.with_suffix(".json")
    description = json.loads(beside.read_text())
    del description["fingerprint"]
    text = json.dumps(description)
    beside.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    save_file(load_file(saved), saved, {"format": "pt", "description_sha256": digest})
    torch.testing.assert_close(_predict(load_network(saved)), _predict(network))


def test_half_of_the_size_keeps_vectors_and_constants_as_they_are(network, saved, tmp_path):
    path = tmp_path / "half.safetensors"
    save_network(network, path, half=True)
    assert path.stat().st_size < 0.65 * saved.stat().st_size
    loaded = load_network(path)
    for name, tensor in network.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == tensor.dtype
        expected = tensor.half().float() if tensor.ndim > 1 else tensor
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    # What it says of its numbers is what a network with these numbers says.
    save_network(loaded, tmp_path / "again.safetensors")
    told = [read_description(one)["fingerprint"] for one in (path, tmp_path / "again.safetensors")]
    assert told[0] == told[1]
