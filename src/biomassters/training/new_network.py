"""A network with random weights that the seed decides."""

import torch

from biomassters.chips.scaling import BandScaling
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.training.step import seed_torch


def new_network(options: NetworkOptions, scaling: BandScaling, seed: int) -> AgbNet:
    """A network to be trained; the caller's random state is left as it was.

    Args:
        options: The architecture.
        scaling: Minimum and maximum of each band.
        seed: Of the run.

    Raises:
        BadInputError: The backbone is unknown or has no five feature levels.
    """
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        return AgbNet(options, scaling)
