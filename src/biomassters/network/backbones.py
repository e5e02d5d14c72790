"""Names of timm backbones: spellings of 2023, misspellings, and what the network can take."""

import difflib
import re
import warnings
from functools import cache
from typing import Any

import timm
import torch
from timm.models import get_deprecated_models
from torch import nn

from biomassters.errors import BadInputError

_NAME = re.compile(r"[\w.-]{1,200}")
STRIDES = (2, 4, 8, 16, 32)
RGB_BANDS = 3


def resolve_backbone(name: str) -> str:
    """The name that today's timm uses for a backbone.

    Args:
        name: A timm model name, with or without the tag of its weights; names that timm has
            replaced, such as ``tf_efficientnetv2_l_in21k``, are understood.

    Returns:
        The current name, such as ``tf_efficientnetv2_l.in21k``.

    Raises:
        BadInputError: timm has no such model.
    """
    if not _NAME.fullmatch(name):  # hf-hub:… and local-dir:… would be asked for
        raise BadInputError(
            f"timm knows no backbone {name[:80]!r}: give one of its own, such as resnet34."
        )
    current = get_deprecated_models().get(name) or name
    architecture, _, tag = current.partition(".")
    if not timm.is_model(architecture):
        raise BadInputError(f"timm knows no backbone {name!r}{_suggestion(architecture)}.")
    if tag and current not in timm.list_pretrained(f"{architecture}.*"):
        tags = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
        raise BadInputError(f"timm has no weights {name!r}: of {architecture} it has {tags}.")
    return current


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    return f": did you mean {', '.join(close)}?".rstrip("?") if close else ""


def create_features(name: str, in_channels: int, *, pretrained: bool = False) -> nn.Module:
    """Build the feature extractor of a resolved backbone.

    Args:
        name: As ``resolve_backbone`` returns it.
        in_channels: Input bands.
        pretrained: Load timm's weights (network access).

    Returns:
        A timm module that maps [N, C, H, W] to five tensors at strides 2, 4, 8, 16, 32.

    Raises:
        BadInputError: The backbone has no five such levels.
    """
    levels = _levels(name)
    return _create(name, in_channels, pretrained=pretrained, out_indices=levels)


@cache
def _levels(name: str) -> tuple[int, ...]:
    """Which outputs lie at the strides. To learn it a whole network is built, so it is kept."""
    with torch.device("meta"):
        info: Any = _create(name, RGB_BANDS, pretrained=False).feature_info
    strides = list(info.reduction())
    if not set(STRIDES) <= set(strides):
        raise BadInputError(
            f"Backbone {name!r} has features at strides {strides}, not at each of "
            f"{list(STRIDES)}: choose one such as tf_efficientnetv2_b0 or resnet34."
        )
    return tuple(info.out_indices[strides.index(stride)] for stride in STRIDES)


def _create(name: str, in_channels: int, *, pretrained: bool, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return timm.create_model(
                name, features_only=True, in_chans=in_channels, pretrained=pretrained, **options
            )
        except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            if pretrained:
                raise
            raise BadInputError(
                f"Backbone {name!r} cannot hand out its feature levels: choose one such as "
                "tf_efficientnetv2_b0 or resnet34."
            ) from error
