import math

import pytest
import torch
from torch import nn

from biomassters.training.optimizer import (
    AveragedNetwork,
    learning_rate_at,
    make_optimizer,
    set_learning_rate,
)
from biomassters.training.options import TrainingOptions


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 1))


def test_only_weights_of_layers_decay() -> None:
    model = network()
    optimizer = make_optimizer(model, TrainingOptions(weight_decay=0.5))
    decayed, undecayed = optimizer.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(3, 2, 3, 3), (1, 3)]
    assert [p.ndim for p in undecayed["params"]] == [1, 1, 1, 1]
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.5, 0.0)


def test_one_step_worked_by_hand() -> None:
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 2.0)
    nn.init.constant_(model.bias, 2.0)
    optimizer = make_optimizer(model, TrainingOptions(learning_rate=0.1, weight_decay=0.5))
    model.weight.grad, model.bias.grad = torch.full((1, 1), 3.0), torch.full((1,), -3.0)
    optimizer.step()
    # The first step of Adam is the rate times the sign; decay takes rate · decay · weight first.
    assert model.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, rel=1e-6)
    assert model.bias.item() == pytest.approx(2.0 + 0.1, rel=1e-6)


def test_the_rate_is_torchs_cosine_annealing() -> None:
    options = TrainingOptions(epochs=10, learning_rate=1e-3, final_learning_rate=1e-5)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=1e-5)
    for epoch in range(10):
        assert learning_rate_at(epoch, options) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_the_rate_starts_whole_and_is_half_in_the_middle() -> None:
    options = TrainingOptions(epochs=4, learning_rate=1.0)
    rates = [learning_rate_at(epoch, options) for epoch in range(4)]
    assert rates == pytest.approx([1.0, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.5 - math.sqrt(0.5) / 2])


def test_setting_the_rate_reaches_every_parameter() -> None:
    optimizer = make_optimizer(network(), TrainingOptions())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def set_weight(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        next(network.parameters()).fill_(value)


def test_average_worked_by_hand() -> None:
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
