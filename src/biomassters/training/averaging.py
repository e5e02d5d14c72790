"""Exponential moving average of the weights."""

import copy

import torch
from torch import Tensor, nn


class AveragedNetwork:
    """A copy of a network whose weights follow those in training slowly.

    The decay grows with the steps as min(decay, (1 + n) / (10 + n)), so that the random start
    is forgotten soon (as TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``).
    The running statistics of normalizations are averaged alike (as timm's ``ModelEmaV3`` does):
    those of the network in training belong to its present weights, which the average follows from
    some distance. Counters are copied.

    Args:
        network: In training.
        decay: Of the average, per step, in 0 … 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 0 over the whole run."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        averages: list[Tensor] = list(self.network.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1.0 - decay)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            if buffer.is_floating_point():
                average.lerp_(buffer, 1.0 - decay)
            else:
                average.copy_(buffer)
