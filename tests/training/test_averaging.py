import pytest
import torch
from torch import nn

from biomassters.training.averaging import AveragedNetwork


def set_weight(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        next(network.parameters()).fill_(value)


def test_values_worked_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    set_weight(network, 10.0)
    averaged = AveragedNetwork(network, decay=0.15)
    weight = next(averaged.network.parameters())
    set_weight(network, 20.0)
    averaged.update(network, step=0)  # decay (1 + 0) / (10 + 0) = 0.1
    assert weight.item() == pytest.approx(0.1 * 10 + 0.9 * 20)
    averaged.update(network, step=1)  # (1 + 1) / (10 + 1) = 0.18 is more than 0.15
    assert weight.item() == pytest.approx(0.15 * 19 + 0.85 * 20)


def test_buffers_are_copied_and_the_network_in_training_is_untouched() -> None:
    network = nn.BatchNorm1d(2)
    averaged = AveragedNetwork(network, decay=0.9)
    network(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    averaged.update(network, step=100)
    for name, buffer in averaged.network.named_buffers():
        assert torch.equal(buffer, before[name])
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
