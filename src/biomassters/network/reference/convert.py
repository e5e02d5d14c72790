"""The published weights of the challenge's first place, as a network of this project."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomassters.chips.scaling import BandScaling
from biomassters.network.agb_net import AgbNet
from biomassters.network.reference.checkpoint_file import read_checkpoint
from biomassters.network.reference.layout import infer_options
from biomassters.network.weights import network_of_tensors


def load_reference(path: Path | str, backbone: str | None = None) -> tuple[AgbNet, dict[str, Any]]:
    """Read a checkpoint of the reference network; nothing in the file is executed.

    Args:
        path: ``modelo_best.pth`` (a whole pickled module) or ``model_last.pth`` /
            ``model_best.pth`` (a dictionary with a state dict), saved on any device.
        backbone: Its timm backbone; worked out from the tensors when not given.

    Returns:
        The network with the reference's scaling, in evaluation mode on the CPU, and a
        description to save with it.

    Raises:
        BadInputError: The file is no such checkpoint, damaged, or would run something.
    """
    path = Path(path)
    tensors = read_checkpoint(path)
    options = infer_options(tensors, str(path), backbone)
    scaling = BandScaling.reference()
    for key in tensors:
        tensors[key] = _single_precision(tensors[key])
    offset, band_range = scaling.offset_and_range()
    tensors["scaler.offset"] = torch.from_numpy(offset)
    tensors["scaler.range"] = torch.from_numpy(band_range)
    network = network_of_tensors(options, scaling, tensors, str(path))
    return network, {"recipe": {"name": "reference", "source": path.name}}


def _single_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
