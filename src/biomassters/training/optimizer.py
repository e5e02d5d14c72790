"""AdamW, its learning rate by epoch, and the running average of the weights.

AdamW: Loshchilov & Hutter, arXiv 1711.05101, set as the reference recipe sets it. ``state.py``
holds the three together, ``trainer.py`` sets the rate at the start of each epoch.
"""

import copy
import math

import torch
from torch import Tensor, nn

from biomassters.training.options import TrainingOptions

FUSED_DEVICES = ("cpu", "cuda")


def make_optimizer(network: nn.Module, options: TrainingOptions) -> torch.optim.AdamW:
    """AdamW that decays the weights of layers, but no bias and no other 1-D parameter.

    Scales and shifts of normalizations are 1-D: pulling them to 0 would fight the
    normalization, not the overfitting.
    """
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        exempt = parameter.ndim <= 1 or name.endswith("bias")
        (undecayed if exempt else decayed).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": options.weight_decay},
            {"params": undecayed, "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
        fused=next(network.parameters()).device.type in FUSED_DEVICES,
    )


def learning_rate_at(epoch: int, options: TrainingOptions) -> float:
    """Learning rate of an epoch, counted from 0: half a cosine over all epochs.

    Loshchilov & Hutter, SGDR (arXiv 1608.03983), equation 5 without restarts. A function of
    the epoch alone, so there is no scheduler whose state could be lost.
    """
    share = 0.5 * (1.0 + math.cos(math.pi * epoch / options.epochs))
    low, high = options.final_learning_rate, options.learning_rate
    return low + (high - low) * share


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The same rate for every parameter."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


class AveragedNetwork:
    """A copy of a network whose weights are an exponential moving average of those in training.

    The decay grows with the steps as min(decay, (1 + n) / (10 + n)), so that the random start
    is forgotten soon (as TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``).
    The running statistics of normalizations are averaged alike (as timm's ``ModelEmaV3`` does):
    those of the network in training belong to its present weights, which the average follows from
    some distance. Counters are copied.

    Not ``torch.optim.swa_utils.AveragedModel``: it takes the first weights over whole, counts its
    own updates, which would have to be saved as well, and averages counters.
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
