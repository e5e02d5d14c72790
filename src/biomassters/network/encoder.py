"""The encoder that all months share: a timm backbone with a stem for any number of bands.

``Encoder`` is what the network holds. Below it: which names of backbones are understood, and how
pretrained weights are had and spread over more bands than three. Next: ``temporal_attention``.
"""

import difflib
import logging
import os
import re
import urllib.error
import urllib.request
import warnings
from functools import cache
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.models import get_deprecated_models, get_pretrained_cfg
from torch import Tensor, nn

from biomassters.console import quiet
from biomassters.errors import BadInputError
from biomassters.messages import first_line

logger = logging.getLogger(__name__)

STRIDES = (2, 4, 8, 16, 32)
RGB_BANDS = 3
_NAME = re.compile(r"[\w.-]{1,200}")
_DEFAULT_HUB = "https://huggingface.co"
_HUB_TIMEOUT_S = 3.0
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_REMEDY = "choose one such as tf_efficientnetv2_b0 or resnet34."


class Encoder(nn.Module):
    """Features of one month's image at five resolutions.

    The backbone is held as ``model``, so that weights keep the names of the reference's.

    Args:
        backbone: Name of a timm model; names of 2023 are understood.
        in_channels: Input bands.
        pretrained: Start from timm's weights.
        allow_random_start: Start from random weights, with a warning, where those can't be had.

    Attributes:
        backbone: The backbone's current name.
        channels: Channels of the features at strides 2, 4, 8, 16, 32.

    Raises:
        BadInputError: The backbone is unknown, or its pretrained weights can't be had.
    """

    def __init__(
        self,
        backbone: str,
        in_channels: int,
        *,
        pretrained: bool = False,
        allow_random_start: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = resolve_backbone(backbone)
        self.model = create_features(self.backbone, in_channels)
        info: Any = self.model.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        if not pretrained:
            return
        try:
            weights = _fetch_rgb_weights(self.backbone)
        except BadInputError as error:
            if not allow_random_start:
                raise
            logger.warning("Training starts from random weights: %s", error)
        else:
            self.model.load_state_dict(adapt_stem(weights, self.model.state_dict()))

    def forward(self, x_NCHW: Tensor) -> list[Tensor]:
        """[N, C, H, W] → five tensors [N, D, H/s, W/s] for the strides s = 2, 4, 8, 16, 32."""
        features: list[Tensor] = self.model(x_NCHW)
        return features


# ---- Backbones by name ---------------------------------------------------------------------


def resolve_backbone(name: str) -> str:
    """The name that today's timm uses for a backbone, such as ``tf_efficientnetv2_l.in21k``.

    With or without the tag of its weights; names that timm has replaced, such as
    ``tf_efficientnetv2_l_in21k``, are understood.

    Raises:
        BadInputError: timm has no such model.
    """
    if not _NAME.fullmatch(name):  # timm would fetch hf-hub:… and open local-dir:…
        raise BadInputError(
            f"timm knows no backbone {name[:80]!r}: give one of its own, such as resnet34."
        )
    current = get_deprecated_models().get(name) or name
    architecture, _, tag = current.partition(".")
    if not timm.is_model(architecture):
        close = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=3))
        hint = f": did you mean {close}" if close else ""
        raise BadInputError(f"timm knows no backbone {name!r}{hint}.")
    if tag and current not in (known := timm.list_pretrained(f"{architecture}.*")):
        tags = ", ".join(known) or "none"
        raise BadInputError(f"timm has no weights {name!r}: of {architecture} it has {tags}.")
    return current


def create_features(name: str, in_channels: int, *, pretrained: bool = False) -> nn.Module:
    """The feature extractor of a resolved backbone: [N, C, H, W] → five tensors at ``STRIDES``.

    ``pretrained`` loads timm's weights (network access).

    Raises:
        BadInputError: The backbone has no five such levels.
    """
    return _create(name, in_channels, pretrained=pretrained, out_indices=_levels(name))


@cache
def _levels(name: str) -> tuple[int, ...]:
    """Which outputs lie at the strides. To learn it a whole network is built, so it is kept."""
    with torch.device("meta"):
        info: Any = _create(name, RGB_BANDS).feature_info
    strides = list(info.reduction())
    if not set(STRIDES) <= set(strides):
        raise BadInputError(
            f"Backbone {name!r} has features at strides {strides}, not at each of "
            f"{list(STRIDES)}: {_REMEDY}"
        )
    return tuple(info.out_indices[strides.index(stride)] for stride in STRIDES)


def _create(name: str, in_channels: int, *, pretrained: bool = False, **options: Any) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        try:
            return timm.create_model(
                name, features_only=True, in_chans=in_channels, pretrained=pretrained, **options
            )
        except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            if pretrained:
                raise
            raise BadInputError(
                f"Backbone {name!r} cannot hand out its feature levels: {_REMEDY}"
            ) from error


# ---- Pretrained weights --------------------------------------------------------------------


def check_pretrained(backbone: str) -> None:
    """Refuse a backbone whose pretrained weights are neither on this machine nor at the hub.

    Asks without fetching, so that it may come before hours of other work.

    Raises:
        BadInputError: timm doesn't know the backbone, or the hub does not answer.
    """
    name = resolve_backbone(backbone)
    if not (_is_cached(name) or _hub_answers()):
        raise _no_weights(name, "the model hub does not answer")


def _fetch_rgb_weights(backbone: str) -> dict[str, Tensor]:
    check_pretrained(backbone)
    try:
        with quiet("huggingface_hub", "timm"):
            return create_features(backbone, RGB_BANDS, pretrained=True).state_dict()
    except Exception as error:  # whatever the hub's client raises
        raise _no_weights(backbone, first_line(error)) from error


def _no_weights(backbone: str, reason: str) -> BadInputError:
    return BadInputError(
        f"network.pretrained asks for weights of {backbone} that cannot be had "
        f"({reason}): put them into the hub's cache on this machine, or set "
        "network.pretrained=false, or network.allow_random_start=true to go on from random weights "
        "wherever they cannot be had."
    )


def _is_cached(backbone: str) -> bool:
    repository = getattr(get_pretrained_cfg(backbone), "hf_hub_id", None)
    if not repository:
        return False
    if not repository.count("/") or repository.endswith("/"):
        repository = f"timm/{backbone}"
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHT_FILES)


def _hub_answers() -> bool:
    """Asked first: without a network the hub's client retries for most of a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    try:
        request = urllib.request.Request(os.environ.get("HF_ENDPOINT", _DEFAULT_HUB), method="HEAD")
        with urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return True  # it answered, if only to refuse this page
    except (OSError, ValueError):
        return False


def adapt_stem(rgb: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Three-band weights (``rgb``) in the names and shapes of a network that sees other bands.

    The stem's weights are repeated over the bands and scaled by 3 / bands, which keeps the
    size of its output, as the reference does. Nothing else changes.

    Raises:
        BadInputError: Anything but a stem differs.
    """
    if unmatched := rgb.keys() ^ target.keys():
        raise BadInputError(
            f"The pretrained weights do not fit the backbone: {min(unmatched)} is unmatched."
        )
    adapted = dict(rgb)
    for key, weight in rgb.items():
        shape = target[key].shape
        if weight.shape == shape:
            continue
        fits = weight.ndim == 4 and weight.shape[1] == RGB_BANDS
        if not fits or weight.shape[:1] + weight.shape[2:] != shape[:1] + shape[2:]:
            raise BadInputError(
                f"The pretrained weights do not fit the backbone: {key} has shape "
                f"{tuple(weight.shape)}, not {tuple(shape)}."
            )
        repeated = weight.repeat(1, -(-shape[1] // RGB_BANDS), 1, 1)[:, : shape[1]]
        adapted[key] = repeated * (RGB_BANDS / shape[1])
    return adapted
