import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import REFERENCE_DECODER_CHANNELS, NetworkOptions
from biomassters.network.reference.checkpoint_file import read_checkpoint
from biomassters.network.reference.convert import find_backbone, load_reference
from biomassters.network.weights import load_network, parameter_table, save_network

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference(reference_root):
    return reference_root / "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def packed(reference):
    """The reference's inputs without the months that its mask drops."""
    kept = torch.from_numpy(~np.load(reference / "mask.npy"))
    chip_of_month = torch.arange(len(kept))[:, None].expand(kept.shape)[kept]
    return torch.from_numpy(np.load(reference / "inputs.npy"))[kept], chip_of_month


@pytest.mark.parametrize("name", ["modelo_best.pth", "model_last.pth"])
def test_reference_outputs_come_back(reference, packed, tmp_path, name):
    network, description = load_reference(reference / name)
    assert network.options.backbone == "mobilenetv3_small_050"
    assert network.options.decoder_channels == (32, 28, 24, 20, 16)
    assert network.options.scse
    save_network(network, tmp_path / "reference.safetensors", description)
    loaded = load_network(tmp_path / "reference.safetensors")
    expected = np.load(reference / "expected.npy")
    for candidate in (network, loaded):
        with torch.no_grad():
            predicted = candidate.forward_scaled(*packed, chip_count=2).numpy()
        assert np.abs(predicted - expected).max() < TOLERANCE


def test_reference_weights_carry_the_reference_scaling(reference):
    network, _ = load_reference(reference / "modelo_best.pth")
    assert network.scaling == BandScaling.reference()
    offset, band_range = BandScaling.reference().offset_and_range()
    np.testing.assert_array_equal(network.scaler.offset.numpy(), offset)
    np.testing.assert_array_equal(network.scaler.range.numpy(), band_range)


def test_every_key_of_the_large_network_has_its_place(reference_root):
    lines = (reference_root / "facts" / "state_dict_l_in21k.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    expected = {
        key: tuple(int(size) for size in shape.split("x")) if shape != "scalar" else ()
        for key, shape, _ in rows
    }
    network = _large_network()
    found = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert len(expected) == 1692
    assert {key: found.pop(key) for key in expected} == expected
    assert found == {"scaler.offset": (15,), "scaler.range": (15,)}
    never = network.weights_never_called()
    assert len(never) == 6
    assert all(key.startswith("decoder.blocks.4.attention1.") for key in never)


def test_parameters_of_the_large_network_by_part(reference_root):
    facts = json.loads((reference_root / "facts" / "params_l.json").read_text())
    network = _large_network()
    expected = {"encoder": facts["encoder"], "head": facts["head"]}
    expected |= {f"attention, level {level}": count for level, count in facts["attn"].items()}
    for number, counted in facts["decoder_blocks"].items():
        expected[f"decoder, block {number}"] = counted.pop("total")
        expected |= {f"decoder, block {number}, {part}": n for part, n in counted.items()}
    expected["whole network"] = facts["total"]
    table = parameter_table(network).set_index("part")
    assert table["parameters"].to_dict() == expected
    assert table.loc["whole network"].tolist() == [130_840_698, facts["n_param_tensors"]]
    assert network.encoder.channels == tuple(facts["enc_channels"])


def test_the_large_backbone_is_found_from_shapes(reference_root):
    lines = (reference_root / "facts" / "state_dict_l_in21k.tsv").read_text().splitlines()[1:]
    prefix = "encoder.model."
    encoder = {
        key.removeprefix(prefix): torch.Size(
            int(size) for size in shape.split("x") if size != "scalar"
        )
        for key, shape, _ in (line.split("\t") for line in lines)
        if key.startswith(prefix)
    }
    assert find_backbone(encoder, "facts") == "tf_efficientnetv2_l.in21k"


def _large_network():
    options = NetworkOptions(
        backbone="tf_efficientnetv2_l_in21k",
        decoder_channels=REFERENCE_DECODER_CHANNELS,
    )
    with torch.device("meta"):
        return AgbNet(options, BandScaling.reference())


@pytest.fixture(scope="module")
def state(reference):
    return read_checkpoint(reference / "model_last.pth")


STEM = "encoder.model.conv_stem.weight"
DEEP = "encoder.model.blocks.1.0.conv_pw.weight"
WIDE = "decoder.blocks.2.conv1.0.weight"


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda state: state.pop(DEEP), f"lacks the tensor {DEEP}"),
        (lambda state: state.pop(WIDE), f"lacks the tensor {WIDE}"),
        (lambda state: state.pop("attn.1.attn.0.bias"), "lacks the tensor attn.1.attn.0.bias"),
        (lambda state: state.update({"attn.5.attn.0.bias": torch.ones(3)}), "attn.5.attn.0.bias"),
        (lambda state: state.update(fc=torch.ones(3)), "holds fc, which is no part"),
        (lambda state: state.update({DEEP: state[DEEP][:3]}), f"holds {DEEP} with shape"),
        (lambda state: state.update({STEM: state[STEM][:, :12]}), f"holds {STEM} for 12 bands"),
        (lambda state: state.update({WIDE: state[WIDE][:5]}), "decoder.blocks.2.conv1.1.weight"),
    ],
)
def test_weights_of_another_network_are_refused_by_key(state, tmp_path, change, culprit):
    changed = dict(state)
    change(changed)
    torch.save({"state_dict": changed}, tmp_path / "other.pth")
    with pytest.raises(BadInputError, match=culprit) as caught:
        load_reference(tmp_path / "other.pth")
    assert "other.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_architecture_is_refused(tmp_path):
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "other.pth")
    with pytest.raises(BadInputError, match=r"holds 0\.weight, which is no part"):
        load_reference(tmp_path / "other.pth")


def test_the_backbone_can_be_named(reference, packed):
    network, _ = load_reference(reference / "modelo_best.pth", backbone="mobilenetv3_small_050")
    assert network.encoder.backbone == "mobilenetv3_small_050"
    with pytest.raises(BadInputError, match=r"modelo_best\.pth"):
        load_reference(reference / "modelo_best.pth", backbone="resnet18")


def test_networks_without_gates_are_understood(tmp_path):
    options = NetworkOptions(backbone="mobilenetv3_small_050", scse=False)
    weights = AgbNet(options, BandScaling.reference()).state_dict()
    weights = {key: value for key, value in weights.items() if not key.startswith("scaler.")}
    torch.save({"state_dict": weights}, tmp_path / "plain.pth")
    assert load_reference(tmp_path / "plain.pth")[0].options == options


CONVERSION = """
import sys
from pathlib import Path
from biomassters.network.reference.convert import load_reference
from biomassters.network.weights import save_network

def peak():
    # ru_maxrss begins with the parent's peak.
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024

load_reference(sys.argv[2])  # imports and timm's registry, paid whatever the file
before = peak()
network, description = load_reference(sys.argv[1])
save_network(network, sys.argv[3], description)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_large_file_costs_little_more_memory_than_its_size(reference, tmp_path):
    options = NetworkOptions(
        backbone="mobilenetv3_small_050", decoder_channels=(800, 800, 800, 800, 800)
    )
    with torch.device("meta"):
        expected = AgbNet(options, BandScaling.reference()).state_dict()
    weights = {
        f"module.{key}": torch.ones(value.shape, dtype=value.dtype)
        for key, value in expected.items()
        if not key.startswith("scaler.")
    }
    large = tmp_path / "large.pth"
    torch.save({"state_dict": weights}, large)
    assert large.stat().st_size > 200e6
    small = reference / "modelo_best.pth"
    arguments = [sys.executable, "-c", CONVERSION, large, small, tmp_path / "large.safetensors"]
    run = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert 0 < int(run.stdout) < 1.2 * large.stat().st_size
