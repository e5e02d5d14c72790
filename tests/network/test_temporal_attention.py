import pytest
import torch

from biomassters.network import temporal_attention
from biomassters.network.temporal_attention import (
    Months,
    TemporalAttention,
    softmax_over_months,
    sum_over_months,
)

CHIP = torch.tensor([0, 0, 0, 1, 2, 2])


def _padded_reference(attention, features, chip_of_month):
    """Every chip with twelve months, the absent ones masked: as the reference does it."""
    chips = int(chip_of_month[-1]) + 1
    padded = torch.zeros(chips, 12, *features.shape[1:], dtype=features.dtype)
    dropped = torch.ones(chips, 12, dtype=torch.bool)
    for chip in range(chips):
        months = features[chip_of_month == chip]
        padded[chip, : len(months)] = months
        dropped[chip, : len(months)] = False
    x_BTHWD = padded.permute(0, 1, 3, 4, 2)
    scores = attention.attn(x_BTHWD).masked_fill(dropped[:, :, None, None, None], -torch.inf)
    return (torch.softmax(scores, dim=1) * x_BTHWD).sum(1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("scored_at_once", [10**9, 50, 1])
def test_packed_months_pool_as_masked_ones(monkeypatch, scored_at_once):
    monkeypatch.setattr(temporal_attention, "SCORED_AT_ONCE", scored_at_once)
    torch.manual_seed(0)
    attention = TemporalAttention(5).double()
    features = torch.randn(6, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    found = attention(features, Months.of(CHIP, 3))
    expected = _padded_reference(attention, features, CHIP)
    torch.testing.assert_close(found, expected)
    towards = torch.randn_like(expected)
    inputs = (features, *attention.parameters())
    for gradient, wanted in zip(
        torch.autograd.grad(found, inputs, towards),
        torch.autograd.grad(expected, inputs, towards),
        strict=True,
    ):
        torch.testing.assert_close(gradient, wanted)
    with torch.no_grad():
        torch.testing.assert_close(attention(features, Months.of(CHIP, 3)), expected)


def test_weights_by_hand():
    # Scores 0 and ln 3: weights 1/4 and 3/4. A chip with one month: weight 1.
    scores = torch.tensor([0.0, 3.0, 5.0]).view(3, 1, 1)
    scores[1] = torch.log(scores[1])
    months = Months.of(torch.tensor([0, 0, 1]), 2)
    weights = softmax_over_months(scores, months)
    assert weights.shape == (2, 12, 1, 1)
    torch.testing.assert_close(weights[0, :3].flatten(), torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(weights[1, :2].flatten(), torch.tensor([1.0, 0.0]))
    features = torch.tensor([8.0, 4.0, 7.0]).view(3, 1, 1, 1)
    pooled = sum_over_months(features, weights, months)
    torch.testing.assert_close(pooled.flatten(), torch.tensor([5.0, 7.0]))


def test_gradients_are_those_of_differences():
    months = Months.of(CHIP, 3)
    features = torch.randn(6, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(6, 2, 2, dtype=torch.float64, requires_grad=True)

    def pool(features, scores):
        return sum_over_months(features, softmax_over_months(scores, months), months)

    assert torch.autograd.gradcheck(pool, (features, scores))


def test_a_chip_does_not_see_another_chips_months():
    torch.manual_seed(0)
    attention = TemporalAttention(4)
    features = torch.randn(6, 4, 2, 2)
    together = attention(features, Months.of(CHIP, 3))
    alone = attention(features[3:4], Months.of(torch.tensor([0]), 1))
    torch.testing.assert_close(together[1:2], alone)
    torch.testing.assert_close(alone, features[3:4])  # one month: weight 1


def test_twelve_months_fit():
    months = Months.of(torch.arange(2).repeat_interleave(12), 2)
    weights = softmax_over_months(torch.zeros(24, 1, 1), months)
    torch.testing.assert_close(weights, torch.full((2, 12, 1, 1), 1 / 12))
