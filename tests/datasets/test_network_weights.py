from biomassters.chips.scaling import BandScaling
from biomassters.datasets.network_weights import (
    NetworkWeights,
    NetworkWeightsDataset,
    joint_weights,
)
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions


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
