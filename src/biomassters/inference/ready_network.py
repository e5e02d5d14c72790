"""A network made ready to predict: on its device, computed the fastest way that was asked for."""

import torch

from biomassters.inference.options import InferenceOptions
from biomassters.network.agb_net import AgbNet
from biomassters.network.folding import fold_batch_norm


def ready_network(network: AgbNet, options: InferenceOptions, device: torch.device) -> AgbNet:
    """The same network for prediction alone.

    Args:
        network: Moved to ``device`` and configured.
        options: Execution, and whether BatchNorm is folded.
        device: Where it will predict.

    Returns:
        In evaluation mode; a copy when BatchNorm is folded, which can neither be trained nor
        saved.
    """
    network = network.to(device).configure(options.execution).eval()
    return fold_batch_norm(network) if options.fold_batch_norm else network
