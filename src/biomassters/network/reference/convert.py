"""The published weights of the challenge's first place, as a network of this project.

Which network they belong to is worked out from names and shapes alone. ``checkpoint_file`` reads
them, ``network/weights`` keeps what comes of it.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Size, Tensor

from biomassters.chips.bands import BAND_NAMES
from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.encoder import create_features, resolve_backbone
from biomassters.network.options import LEVEL_COUNT, NetworkOptions
from biomassters.network.reference.checkpoint_file import read_checkpoint
from biomassters.network.weights import network_of_tensors

logger = logging.getLogger(__name__)

ENCODER = "encoder.model."
_PARTS = (ENCODER, "attn.", "decoder.blocks.", "segmentation_head.")
_GATE = "decoder.blocks.0.attention1.attention.cSE.1.weight"

# Tried first: the reference's own backbones, then the families it was tried with. Weights do not
# tell a tf_ model from its twin (same tensors, other padding): the reference's are tf_ models.
_LIKELY = (
    "tf_efficientnetv2_l.in21k",
    "mobilenetv3_small_050",
    "tf_efficientnetv2_*",
    "mobilenetv3_*",
    "tf_efficientnet_b*",
    "resnet*",
    "efficientnet*",
)
# The encoder's first tensor says which of them can be meant before any is built.
_STEMS = {"conv_stem.weight": ("*efficientnet*", "mobilenetv3_*"), "conv1.weight": ("resnet*",)}
_SEARCH_S = 4.0  # of the processor's time: a busy machine finds what a quiet one does
# Shares of common tensors:
_SAME = 1.0
_NEARLY_SAME = 0.97
_RELATED = 0.5


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
    options = _infer_options(tensors, str(path), backbone)
    scaling = BandScaling.reference()
    for key, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[key] = tensor.float()
    offset, band_range = scaling.offset_and_range()
    tensors["scaler.offset"] = torch.from_numpy(offset)
    tensors["scaler.range"] = torch.from_numpy(band_range)
    network = network_of_tensors(options, scaling, tensors, str(path))
    return network, {"recipe": {"name": "reference", "source": path.name}}


def _infer_options(
    tensors: Mapping[str, Tensor], source: str, backbone: str | None
) -> NetworkOptions:
    """The architecture of a state dict with the reference's names."""
    for key in tensors:
        if not key.startswith(_PARTS):
            raise BadInputError(
                f"{source} holds {key}, which is no part of this network: give weights of the "
                "BioMassters reference network."
            )
    widths = []
    for level in range(LEVEL_COUNT):
        key = f"decoder.blocks.{level}.conv1.0.weight"
        if key not in tensors or tensors[key].ndim == 0:
            raise BadInputError(f"{source} lacks the tensor {key}: use weights of this network.")
        widths.append(len(tensors[key]))
    encoder = {
        key.removeprefix(ENCODER): tensor.shape
        for key, tensor in tensors.items()
        if key.startswith(ENCODER)
    }
    stem = next((key for key, shape in encoder.items() if len(shape) == 4), None)
    if stem is None:
        raise BadInputError(f"{source} lacks the encoder's weights ({ENCODER}…).")
    if (bands := encoder[stem][1]) != len(BAND_NAMES):
        raise BadInputError(
            f"{source} holds {ENCODER}{stem} for {bands} bands where this network has "
            f"{len(BAND_NAMES)}: use weights of this network."
        )
    return NetworkOptions(
        backbone=resolve_backbone(backbone) if backbone else find_backbone(encoder, source),
        pretrained=False,
        decoder_channels=tuple(widths),
        scse=_GATE in tensors,
    )


def find_backbone(encoder: Mapping[str, Size], source: str) -> str:
    """The timm backbone whose tensors have these names (without ``ENCODER``) and shapes.

    When none fits entirely, one that nearly does. ``source``, their file, is for messages.

    Raises:
        BadInputError: No backbone is alike.
    """
    first = next(iter(encoder), "")
    best, best_share = "", 0.0
    end = time.thread_time() + _SEARCH_S
    for name in _candidates(first):
        if time.thread_time() > end:
            break
        share = _common_share(encoder, name)
        if share > best_share:
            best, best_share = name, share
        if share >= _NEARLY_SAME:
            break
    if best_share < _RELATED:
        raise BadInputError(
            f"{source} has an encoder that none of the usual backbones resembles (its first "
            f"tensor is {ENCODER}{first[:80]}): name the backbone."
        )
    if best_share == _SAME:
        logger.info("The encoder of %s is %s.", source, best)
    return best


def _candidates(first_tensor: str) -> Iterator[str]:
    families = _STEMS.get(first_tensor, ())
    seen = set()
    for pattern in _LIKELY:
        for name in [pattern] if timm.is_model(pattern) else timm.list_models(pattern):
            architecture = name.partition(".")[0]
            if architecture not in seen and any(fnmatch(architecture, one) for one in families):
                seen.add(architecture)
                yield name


def _common_share(encoder: Mapping[str, Size], backbone: str) -> float:
    """Share of tensors that both have, with one shape, among those that either has."""
    try:
        with torch.device("meta"):
            state = create_features(backbone, len(BAND_NAMES)).state_dict()
    except Exception:  # a model that cannot be built this way is no candidate
        return 0.0
    common = sum(encoder.get(key) == tensor.shape for key, tensor in state.items())
    return common / len(encoder.keys() | state.keys())
