import hashlib
import json
import time

import pytest
from kedro.io import DatasetError

from biomassters.chips.scaling import BandScaling
from biomassters.datasets.network_weights import (
    NetworkWeights,
    NetworkWeightsDataset,
    joint_weights,
)
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import save_network, write_safetensors
from biomassters.preflight.input_checks import _weights_faults


def test_networks_that_predict_as_one_come_back_as_they_were(tmp_path):
    options = NetworkOptions(decoder_channels=(16, 16, 8, 8, 8))
    members = [
        NetworkWeights(AgbNet(options, BandScaling.reference()), {"held_out_fold": fold})
        for fold in (0, 3)
    ]
    dataset = NetworkWeightsDataset(filepath=str(tmp_path / "weights.safetensors"))
    dataset.save(joint_weights(members))
    loaded = dataset.load()
    assert [member.description["held_out_fold"] for member in loaded.members] == [0, 3]
    assert loaded.fingerprint == joint_weights(members).fingerprint
    assert loaded.first.state_dict().keys() == members[0].network.state_dict().keys()
    # A single network afterwards is a single one, whatever lies beside it.
    dataset.save(members[1])
    assert dataset.load().members == ()
    assert dataset.load().fingerprint == members[1].fingerprint


def changed(path, **values):
    """Weights whose JSON says something else and is still the one that was written with them."""
    network = AgbNet(NetworkOptions(), BandScaling.reference())
    save_network(network, path)
    beside = path.with_suffix(".json")
    beside.write_text(values.pop("text", json.dumps(json.loads(beside.read_text()) | values)))
    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    write_safetensors(path, network.state_dict(), {"description_sha256": digest})
    return path


def refusal(path):
    start = time.monotonic()
    with pytest.raises(DatasetError) as caught:
        NetworkWeightsDataset(filepath=str(path)).load()
    assert isinstance(caught.value.__cause__, BadInputError)
    assert time.monotonic() - start < 5
    return str(caught.value.__cause__)


@pytest.mark.parametrize(
    "members",
    [["../../x.safetensors"], ["/x.safetensors"], ["x.json"], [3], "x.safetensors", None, [""],
     ["weights.safetensors"], ["x.safetensors"] * 100_000],
)  # fmt: skip
def test_members_are_other_weights_beside_the_first(tmp_path, members):
    changed(tmp_path / "x.safetensors")
    path = changed(tmp_path / "weights.safetensors", members=members)
    sentence = refusal(path)
    assert sentence.startswith(f"{path.with_suffix('.json')} lists the members ")
    assert list(_weights_faults(path)) == [sentence]


def test_a_member_that_is_not_there_is_refused_before_the_run(tmp_path):
    path = changed(tmp_path / "weights.safetensors", members=["x.safetensors"])
    (fault,) = _weights_faults(path)
    assert "x.safetensors; weights are a .safetensors file and its .json" in fault
    changed(tmp_path / "x.safetensors")
    assert not list(_weights_faults(path))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"text": "[" * 100_000}, "is nested too deeply: copy it again"),
        ({"text": "{"}, "is not JSON"),
        ({"text": "[]"}, "does not describe weights"),
        ({"network": 3}, "was changed (network can't be '3')"),
        ({"started_from": 3}, "was changed (started_from can't be '3')"),
        ({"trained_on": "x"}, "was changed (trained_on can't be"),
        ({"network": {"decoder_channels": [10**9] * 5}}, "at most 65536"),
        ({"network": {"backbone": "../../x"}}, "timm knows no backbone"),
    ],
)
def test_a_json_that_somebody_changed(tmp_path, values, sentence):
    assert sentence in refusal(changed(tmp_path / "weights.safetensors", **values))
