"""The reference's forward pass written the straightforward way, to measure against.

Twelve padded months are encoded, dropped or not; the softmax and the weighted sum run over a
[B, T, H, W, D] tensor; the decoder upsamples, then convolves. Parameters have the names of the
project's network, so that both hold the same weights. Torch and timm alone.
"""

from collections.abc import Sequence

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Weighted mean over the months, on padded months."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = nn.Sequential(
            nn.Linear(channels, channels),
            nn.LayerNorm(channels),
            nn.GELU(),
            nn.Linear(channels, 1),
        )

    def forward(self, x_BTHWD: Tensor, dropped_BT: Tensor) -> Tensor:
        """[B, T, H, W, D] and the dropped months → [B, D, H, W]."""
        scores = self.attn(x_BTHWD)
        scores = scores.masked_fill(dropped_BT[:, :, None, None, None], -torch.inf)
        return (torch.softmax(scores, dim=1) * x_BTHWD).sum(1).permute(0, 3, 1, 2)


class Gate(nn.Module):
    """scSE."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Module()
        self.attention.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 16, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 16, channels, 1),
            nn.Sigmoid(),
        )
        self.attention.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """x·cSE(x) + x·sSE(x)."""
        return x * self.attention.cSE(x) + x * self.attention.sSE(x)


class Block(nn.Module):
    """Upsample, join, gate, convolve twice, gate."""

    def __init__(self, below: int, skip: int, width: int) -> None:
        super().__init__()
        self.conv1 = self._conv(below + skip, width)
        self.attention1 = Gate(below + skip)
        self.conv2 = self._conv(width, width)
        self.attention2 = Gate(width)

    @staticmethod
    def _conv(below: int, width: int) -> nn.Sequential:
        conv = nn.Conv2d(below, width, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """One decoder block."""
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        if skip is not None:
            x = self.attention1(torch.cat([x, skip], dim=1))
        return self.attention2(self.conv2(self.conv1(x)))


class PlainNetwork(nn.Module):
    """The whole network on padded months."""

    def __init__(self, backbone: str, bands: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.model = timm.create_model(backbone, features_only=True, in_chans=bands)
        channels = self.encoder.model.feature_info.channels()
        self.attn = nn.ModuleList(Attention(width) for width in channels)
        below, skips = (channels[-1], *widths[:-1]), (*channels[-2::-1], 0)
        self.decoder = nn.Module()
        self.decoder.blocks = nn.ModuleList(map(Block, below, skips, widths))
        self.segmentation_head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x_BTCHW: Tensor, dropped_BT: Tensor) -> Tensor:
        """[B, 12, C, H, W] and the dropped months → [B, 1, H, W]."""
        shape = x_BTCHW.shape[:2]
        features = self.encoder.model(x_BTCHW.flatten(0, 1))
        pooled = [
            attend(level.unflatten(0, shape).permute(0, 1, 3, 4, 2), dropped_BT)
            for attend, level in zip(self.attn, features, strict=True)
        ]
        x, *skips = reversed(pooled)
        for block, skip in zip(self.decoder.blocks, (*skips, None), strict=True):
            x = block(x, skip)
        return self.segmentation_head(x)
