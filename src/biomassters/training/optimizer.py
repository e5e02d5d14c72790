"""AdamW (Loshchilov & Hutter, arXiv 1711.05101) as the reference recipe sets it."""

import math

import torch
from torch import nn

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
        plain = parameter.ndim <= 1 or name.endswith("bias")
        (undecayed if plain else decayed).append(parameter)
    device = next(network.parameters()).device
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": options.weight_decay},
            {"params": undecayed, "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
        fused=device.type in FUSED_DEVICES,
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
