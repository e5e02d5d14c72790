"""The encoder that all months share: a timm backbone with a stem for any number of bands."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from biomassters.errors import BadInputError
from biomassters.network.backbones import create_features, resolve_backbone
from biomassters.network.hub import hub_answers, is_cached, quiet_hub
from biomassters.network.lean_norm import make_lean

logger = logging.getLogger(__name__)

RGB_BANDS = 3


class Encoder(nn.Module):
    """Features of one month's image at five resolutions.

    The backbone is held as ``model``, so that weights keep the names of the reference's.

    Args:
        backbone: Name of a timm model; names of 2023 are understood.
        in_channels: Input bands.
        pretrained: Start from timm's weights when they can be had.

    Attributes:
        backbone: The backbone's current name.
        channels: Channels of the features at strides 2, 4, 8, 16, 32.
    """

    def __init__(self, backbone: str, in_channels: int, *, pretrained: bool = False) -> None:
        super().__init__()
        self.backbone = resolve_backbone(backbone)
        self.model = create_features(self.backbone, in_channels)
        make_lean(self.model)
        info: Any = self.model.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        if pretrained:
            self._load_pretrained()

    def forward(self, x_NCHW: Tensor) -> list[Tensor]:
        """[N, C, H, W] → five tensors [N, D, H/s, W/s] for the strides s = 2, 4, 8, 16, 32."""
        features: list[Tensor] = self.model(x_NCHW)
        return features

    def _load_pretrained(self) -> None:
        weights = fetch_rgb_weights(self.backbone)
        if weights is not None:
            self.model.load_state_dict(adapt_stem(weights, self.model.state_dict()))


def fetch_rgb_weights(backbone: str) -> dict[str, Tensor] | None:
    """Three-band weights of a backbone from timm, or None, with a line in the log, without."""
    if not (is_cached(backbone) or hub_answers()):
        reason = "the model hub does not answer"
    else:
        try:
            with quiet_hub():
                return create_features(backbone, RGB_BANDS, pretrained=True).state_dict()
        except Exception as error:  # whatever the hub's client raises, training can go on
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    logger.warning("Training starts from random weights: no weights of %s (%s).", backbone, reason)
    return None


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
