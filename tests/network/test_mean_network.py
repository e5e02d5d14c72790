import torch

from biomassters.chips.scaling import BandScaling
from biomassters.network.agb_net import AgbNet
from biomassters.network.mean_network import MeanNetwork
from biomassters.network.options import NetworkOptions


def network(seed: int) -> AgbNet:
    torch.manual_seed(seed)
    options = NetworkOptions(decoder_channels=(16, 16, 8, 8, 8))
    return AgbNet(options, BandScaling.reference()).eval()


@torch.inference_mode()
def test_it_predicts_the_mean_of_its_members() -> None:
    members = [network(seed) for seed in (1, 2, 3)]
    generator = torch.Generator().manual_seed(4)
    s1 = torch.randint(-2500, -500, (3, 4, 64, 64), generator=generator).short()
    s2 = torch.randint(0, 5000, (3, 11, 64, 64), generator=generator)
    chip_of_month = torch.tensor([0, 0, 1])
    alone = [member(s1, s2, chip_of_month, 2) for member in members]
    assert not torch.allclose(alone[0], alone[1])
    together = MeanNetwork(members)(s1, s2, chip_of_month, 2)
    torch.testing.assert_close(together, sum(alone) / 3)
