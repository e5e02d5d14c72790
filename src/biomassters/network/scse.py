"""Concurrent spatial and channel squeeze-and-excitation: Roy et al., MICCAI 2018."""

from torch import Tensor, nn

REDUCTION = 16


class SpatialChannelGate(nn.Module):
    """Gate an image by channel and by pixel: x·cSE(x) + x·sSE(x).

    cSE: mean over pixels → 1×1 convolution to C // 16 → ReLU → 1×1 convolution → sigmoid.
    sSE: 1×1 convolution to one channel → sigmoid. The names of the parts are those of the
    reference's weights.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // REDUCTION)
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H, W]."""
        return x_BCHW * (self.cSE(x_BCHW) + self.sSE(x_BCHW))


class Gate(nn.Module):
    """A gate under the name that the reference's weights give it (``attention``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = SpatialChannelGate(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H, W]."""
        gated: Tensor = self.attention(x_BCHW)
        return gated
