"""The spatial decoder: from the pooled features at stride 32 back to full resolution.

Five U-Net blocks, gated by scSE (Roy et al., MICCAI 2018). How a convolution is computed is
``cpu/convolution``'s affair; last comes the head, in ``agb_net``.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from biomassters.network.cpu.convolution import Convolution

SCSE_REDUCTION = 16


class Decoder(nn.Module):
    """Five decoder blocks.

    Args:
        encoder_channels: Channels of the features at strides 2, 4, 8, 16, 32.
        channels: Widths of the blocks, from stride 16 to stride 1.
        scse: Whether the blocks gate.
    """

    def __init__(
        self, encoder_channels: Sequence[int], channels: Sequence[int], *, scse: bool
    ) -> None:
        super().__init__()
        deepest, *skips = reversed(encoder_channels)
        inputs = (deepest, *channels[:-1])
        self.blocks = nn.ModuleList(
            DecoderBlock(below, skip, width, scse=scse)
            for below, skip, width in zip(inputs, (*skips, 0), channels, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Features at strides 2, 4, 8, 16, 32 → [B, last width, H, W]."""
        x, *skips = reversed(pooled)
        for block, skip in zip(self.blocks, (*skips, None), strict=True):
            x = block(x, skip)
        return x


class DecoderBlock(nn.Module):
    """Double the resolution: upsample, join the skip, convolve twice.

    Args:
        in_channels: Channels from below.
        skip_channels: Channels of the skip; 0 for the last block, which has none.
        out_channels: Channels handed on.
        scse: Whether the block gates after joining and at its end.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, *, scse: bool
    ) -> None:
        super().__init__()
        joined = in_channels + skip_channels
        self.conv1 = ConvBnRelu(joined, out_channels)
        self.attention1 = _gate(joined) if scse else nn.Identity()
        self.conv2 = ConvBnRelu(out_channels, out_channels)
        self.attention2 = _gate(out_channels) if scse else nn.Identity()
        if not skip_channels:
            # With no skip the first gate is never called. It stays because the reference's
            # weights hold it, and it is frozen so that no optimizer or rank waits for it.
            self.attention1.requires_grad_(False)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor | None) -> Tensor:
        """[B, C, H, W] and [B, S, 2H, 2W] or None → [B, out_channels, 2H, 2W]."""
        if skip_BCHW is None:
            x = self.conv1.forward_upsampled(x_BCHW)
        else:
            x = functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")
            x = self.conv1(self.attention1(torch.cat([x, skip_BCHW], dim=1)))
        gated: Tensor = self.attention2(self.conv2(x))
        return gated


class ConvBnRelu(nn.Sequential):
    """3×3 convolution without bias → BatchNorm → ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        convolution = Convolution(in_channels, out_channels)
        super().__init__(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

    def forward_upsampled(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, N, 2H, 2W]: what ``forward`` gives of the nearest-upsampled image."""
        convolution, norm, activation = self
        assert isinstance(convolution, Convolution)
        y_BNHW: Tensor = activation(norm(convolution.forward_upsampled(x_BCHW)))
        return y_BNHW


def _gate(channels: int) -> nn.Module:
    """A gate under the name that the reference's weights give it."""
    return nn.Sequential(OrderedDict(attention=ScSE(channels)))


class ScSE(nn.Module):
    """Gate an image by channel and by pixel: x·cSE(x) + x·sSE(x).

    The names of the parts are those of the reference's weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // SCSE_REDUCTION)
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
    """x·(c + s) with one product a chip in the backward pass, which stays in the cache.

    Forward and backward of [4, 24, 96, 96], the default run's last block, take 6 ms on a core of
    an AMD EPYC (2026-11-26); autograd's of x·(c + s) 16 ms, of x·c + x·s 20 ms.
    """

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
