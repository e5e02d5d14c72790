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


def test_running_statistics_are_averaged_as_the_weights_are() -> None:
    network = nn.BatchNorm1d(1)
    averaged = AveragedNetwork(network, decay=0.9)
    network(torch.tensor([[1.0], [3.0]]))  # mean 2, unbiased variance 2, momentum 0.1
    assert network.running_mean.item() == pytest.approx(0.2)
    assert network.running_var.item() == pytest.approx(0.9 + 0.2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    averaged.update(network, step=8)  # decay (1 + 8) / (10 + 8) = 0.5
    assert averaged.network.running_mean.item() == pytest.approx(0.1)
    assert averaged.network.running_var.item() == pytest.approx(1.05)
    assert averaged.network.num_batches_tracked.item() == 1
    averaged.update(network, step=1000)  # (1 + 1000) / (10 + 1000) is more than 0.9
    assert averaged.network.running_mean.item() == pytest.approx(0.9 * 0.1 + 0.1 * 0.2)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
