"""A network made ready to predict: on its device, computed the fastest way that was asked for."""

import torch

from biomassters.inference.options import InferenceOptions
from biomassters.network.agb_net import AgbNet
from biomassters.network.folding import fold_batch_norm
from biomassters.network.mean_network import MeanNetwork


def ready_network(
    network: AgbNet | MeanNetwork, options: InferenceOptions, device: torch.device
) -> AgbNet | MeanNetwork:
    """The same network for prediction alone.

    Args:
        network: Moved to ``device`` and configured.
        options: Execution, and whether BatchNorm is folded.
        device: Where it will predict.

    Returns:
        In evaluation mode; a copy when BatchNorm is folded, which can neither be trained nor
        saved.
    """
    if isinstance(network, MeanNetwork):
        members = [_ready_member(member, options, device) for member in network.agb_nets]
        return MeanNetwork(members).eval()
    return _ready_member(network, options, device)


def _ready_member(network: AgbNet, options: InferenceOptions, device: torch.device) -> AgbNet:
    network = network.to(device).configure(options.execution).eval()
    return fold_batch_norm(network) if options.fold_batch_norm else network
