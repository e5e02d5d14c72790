"""The encoder that all months share: a timm backbone with a stem for any number of bands."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from biomassters.errors import BadInputError
from biomassters.network.backbones import RGB_BANDS, create_features, resolve_backbone
from biomassters.network.cpu.recomputed_norm import make_lean
from biomassters.network.hub import hub_answers, is_cached, quiet_hub

logger = logging.getLogger(__name__)


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
        make_lean(self.model)
        info: Any = self.model.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        if pretrained:
            self._load_pretrained(allow_random_start)

    def forward(self, x_NCHW: Tensor) -> list[Tensor]:
        """[N, C, H, W] → five tensors [N, D, H/s, W/s] for the strides s = 2, 4, 8, 16, 32."""
        features: list[Tensor] = self.model(x_NCHW)
        return features

    def _load_pretrained(self, allow_random_start: bool) -> None:
        try:
            weights = fetch_rgb_weights(self.backbone)
        except BadInputError as error:
            if not allow_random_start:
                raise
            logger.warning("Training starts from random weights: %s", error)
        else:
            self.model.load_state_dict(adapt_stem(weights, self.model.state_dict()))


def check_pretrained(backbone: str) -> None:
    """Refuse a backbone whose pretrained weights are neither on this machine nor at the hub.

    Asks without fetching, so that it may come before hours of other work.

    Raises:
        BadInputError: timm doesn't know the backbone, or the hub does not answer.
    """
    name = resolve_backbone(backbone)
    if not (is_cached(name) or hub_answers()):
        raise _no_weights(name, "the model hub does not answer")


def fetch_rgb_weights(backbone: str) -> dict[str, Tensor]:
    """Three-band weights of a backbone from timm.

    Raises:
        BadInputError: They can't be had.
    """
    check_pretrained(backbone)
    try:
        with quiet_hub():
            return create_features(backbone, RGB_BANDS, pretrained=True).state_dict()
    except Exception as error:  # whatever the hub's client raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _no_weights(backbone, reason) from error


def _no_weights(backbone: str, reason: str) -> BadInputError:
    return BadInputError(
        f"network.pretrained asks for weights of {backbone} that cannot be had "
        f"({reason.rstrip('.')}): put them into the hub's cache on this machine, or set "
        "network.pretrained=false, or network.allow_random_start=true to go on from random weights "
        "wherever they cannot be had."
    )


def adapt_stem(rgb: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Three-band weights for a network that sees other bands.

    The stem's weights are repeated over the bands and scaled by 3 / bands, which keeps the
    size of its output, as the reference does. Nothing else changes.

    Args:
        rgb: Weights for three bands.
        target: Weights of the same backbone for other bands; only names and shapes are read.

    Returns:
        Weights with the names and shapes of ``target``.

    Raises:
        BadInputError: Anything but one stem differs in shape.
    """
    if rgb.keys() != target.keys():
        key = sorted(rgb.keys() ^ target.keys())[0]
        raise BadInputError(f"The pretrained weights do not fit the backbone: {key} is unmatched.")
    adapted = dict(rgb)
    stems = [key for key in rgb if rgb[key].shape != target[key].shape]
    for key in stems:
        adapted[key] = _repeat_bands(key, rgb[key], target[key].shape)
    return adapted


def _repeat_bands(key: str, weight: Tensor, shape: torch.Size) -> Tensor:
    fits = weight.ndim == 4 and weight.shape[1] == RGB_BANDS
    if not fits or weight.shape[:1] + weight.shape[2:] != shape[:1] + shape[2:]:
        raise BadInputError(
            f"The pretrained weights do not fit the backbone: {key} has shape "
            f"{tuple(weight.shape)}, not {tuple(shape)}."
        )
    bands = shape[1]
    repeated = weight.repeat(1, -(-bands // RGB_BANDS), 1, 1)[:, :bands]
    return repeated * (RGB_BANDS / bands)
