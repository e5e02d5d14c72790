"""Concurrent spatial and channel squeeze-and-excitation: Roy et al., MICCAI 2018."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        by_channel, by_pixel = self.cSE(x_BCHW), self.sSE(x_BCHW)
        if torch.compiler.is_compiling():
            return x_BCHW * (by_channel + by_pixel)
        gated: Tensor = _Gating.apply(x_BCHW, by_channel, by_pixel)
        return gated


class _Gating(torch.autograd.Function):
    """x·(c + s), keeping x alone: no sum of gates as large as the image, no second product."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, c_BC11: Tensor, s_B1HW: Tensor) -> Tensor:
        ctx.save_for_backward(x_BCHW, c_BC11, s_B1HW)
        return torch.mul(x_BCHW, c_BC11).addcmul_(x_BCHW, s_B1HW)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_BCHW, c_BC11, s_B1HW = ctx.saved_tensors
        if x_BCHW.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        grad_c, grad_s = torch.empty_like(c_BC11), torch.empty_like(s_B1HW)
        for chip, (x, g) in enumerate(zip(x_BCHW, gradient, strict=True)):
            product = x * g
            grad_c[chip] = product.sum((1, 2), keepdim=True)
            grad_s[chip] = product.sum(0, keepdim=True)
        return torch.mul(gradient, c_BC11).addcmul_(gradient, s_B1HW), grad_c, grad_s


class Gate(nn.Module):
    """A gate under the name that the reference's weights give it (``attention``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = SpatialChannelGate(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H, W]."""
        gated: Tensor = self.attention(x_BCHW)
        return gated
