import numpy as np
import pytest
import torch

from biomassters.chips.scaling import BandScaling
from biomassters.inference.attention import recorded_attention
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    options = NetworkOptions(decoder_channels=(16, 16, 8, 8, 8))
    return AgbNet(options, BandScaling.reference()).eval()


def images(months, size=32):
    generator = torch.Generator().manual_seed(months)
    s1 = torch.randint(-2500, 0, (months, 4, size, size), generator=generator, dtype=torch.int16)
    s2 = torch.randint(0, 4000, (months, 11, size, size), generator=generator).to(torch.uint16)
    return s1, s2


def test_weights_of_a_chips_months_sum_to_one_at_every_level(network):
    s1, s2 = images(7)
    chip_of_month = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    with recorded_attention(network.attn) as recorded:
        network(s1, s2, chip_of_month, 2)
        levels = recorded.take()
    assert [tuple(weights.shape) for weights in levels] == [(2, 12)] * 5
    for weights in levels:
        np.testing.assert_allclose(weights.sum(1), [1, 1], rtol=1e-5)
        assert (weights[0, :3] > 0).all()
        assert (weights[0, 3:] == 0).all()
        assert (weights[1, 4:] == 0).all()


def test_recording_changes_nothing_and_ends(network):
    s1, s2 = images(3)
    chip_of_month = torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        plain = network(s1, s2, chip_of_month, 1)
        with recorded_attention(network.attn) as recorded:
            seen = network(s1, s2, chip_of_month, 1)
        network(s1, s2, chip_of_month, 1)
    torch.testing.assert_close(seen, plain, rtol=0, atol=0)
    assert len(recorded.take()) == 5


def test_a_month_that_stands_out_is_what_the_pooling_uses(network):
    """Pooling with the recorded weights gives the pooled features of the deepest level."""
    s1, s2 = images(4)
    level = network.attn[-1]
    kept = []
    handle = level.register_forward_hook(lambda _, inputs, output: kept.append((inputs, output)))
    with recorded_attention(network.attn) as recorded:
        network(s1, s2, torch.zeros(4, dtype=torch.int64), 1)
    handle.remove()
    levels = recorded.take()
    (features, _), pooled = kept[0]
    expected = (features[:, :, 0, 0] * levels[-1][0, :4, None]).sum(0)
    torch.testing.assert_close(pooled[0, :, 0, 0], expected)
