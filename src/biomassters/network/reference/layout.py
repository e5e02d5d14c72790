"""Which network do these weights belong to? Worked out from names and shapes alone."""

import logging
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch

import timm
import torch
from torch import Size, Tensor

from biomassters.chips.bands import BAND_NAMES
from biomassters.errors import BadInputError
from biomassters.network.backbones import create_features, resolve_backbone
from biomassters.network.options import LEVEL_COUNT, NetworkOptions

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
_SEARCH_S = 4.0
_SAME = 1.0
_NEARLY_SAME = 0.97
_RELATED = 0.5


def infer_options(
    tensors: Mapping[str, Tensor], source: str, backbone: str | None = None
) -> NetworkOptions:
    """The architecture of a state dict with the reference's names.

    Args:
        tensors: The weights.
        source: Their file, for messages.
        backbone: Its backbone, if it is known; else found among timm's.

    Returns:
        Options that rebuild the network.

    Raises:
        BadInputError: The weights are of another kind of network.
    """
    for key in tensors:
        if not key.startswith(_PARTS):
            raise BadInputError(
                f"{source} holds {key}, which is no part of this network: give weights of the "
                "BioMassters reference network."
            )
    widths = [
        _first_size(tensors, f"decoder.blocks.{level}.conv1.0.weight", source)
        for level in range(LEVEL_COUNT)
    ]
    encoder = {
        key.removeprefix(ENCODER): tensor.shape
        for key, tensor in tensors.items()
        if key.startswith(ENCODER)
    }
    _check_bands(encoder, source)
    return NetworkOptions(
        backbone=resolve_backbone(backbone) if backbone else find_backbone(encoder, source),
        pretrained=False,
        decoder_channels=tuple(widths),
        scse=_GATE in tensors,
    )


def find_backbone(encoder: Mapping[str, Size], source: str) -> str:
    """The timm backbone whose tensors have these names and shapes.

    Args:
        encoder: Shapes by name, without the encoder's prefix.
        source: Their file, for messages.

    Returns:
        The backbone; when none fits entirely, one that nearly does.

    Raises:
        BadInputError: No backbone is alike.
    """
    best, best_likeness = "", 0.0
    end = time.monotonic() + _SEARCH_S
    for name in _candidates(next(iter(encoder), "")):
        if time.monotonic() > end:
            break
        likeness = _likeness(encoder, name)
        if likeness > best_likeness:
            best, best_likeness = name, likeness
        if likeness >= _NEARLY_SAME:
            break
    if best_likeness < _RELATED:
        key = next(iter(encoder), ENCODER)
        raise BadInputError(
            f"{source} has an encoder that none of the usual backbones resembles (its first "
            f"tensor is {ENCODER}{key[:80]}): name the backbone."
        )
    if best_likeness == _SAME:
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


def _likeness(encoder: Mapping[str, Size], backbone: str) -> float:
    """Share of tensors that both have, with one shape, among those that either has."""
    try:
        with torch.device("meta"):
            state = create_features(backbone, len(BAND_NAMES)).state_dict()
    except Exception:  # a model that cannot be built this way is no candidate
        return 0.0
    common = sum(encoder.get(key) == tensor.shape for key, tensor in state.items())
    return common / len(encoder.keys() | state.keys())


def _check_bands(encoder: Mapping[str, Size], source: str) -> None:
    stem = next((key for key, shape in encoder.items() if len(shape) == 4), None)
    if stem is None:
        raise BadInputError(f"{source} lacks the encoder's weights ({ENCODER}…).")
    bands = encoder[stem][1]
    if bands != len(BAND_NAMES):
        raise BadInputError(
            f"{source} holds {ENCODER}{stem} for {bands} bands where this network has "
            f"{len(BAND_NAMES)}: use weights of this network."
        )


def _first_size(tensors: Mapping[str, Tensor], key: str, source: str) -> int:
    if key not in tensors or tensors[key].ndim == 0:
        raise BadInputError(f"{source} lacks the tensor {key}: use weights of this network.")
    return int(tensors[key].shape[0])
