"""The spatial decoder: from the pooled features at stride 32 back to full resolution."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from biomassters.network.cpu.convolution import Convolution
from biomassters.network.cpu.recomputed_relu import norm_relu
from biomassters.network.option_protocols import Choice
from biomassters.network.scse import Gate


class ConvBnRelu(nn.Sequential):
    """3×3 convolution without bias → BatchNorm → ReLU.

    Args:
        in_channels: C.
        out_channels: N.

    Attributes:
        lean: Make the result again in the backward pass instead of keeping it; ``"auto"``: no, as
            in ``lean_norm``.
    """

    lean: Choice = "auto"

    def __init__(self, in_channels: int, out_channels: int) -> None:
        convolution = Convolution(in_channels, out_channels)
        super().__init__(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

    def convolve(
        self, x_BCHW: Tensor, *, upsampled: bool = False
    ) -> tuple[Tensor, AbstractContextManager[None]]:
        """Convolve an image, or its nearest-upsampled form.

        Returns:
            The result, and a context for the layers that take it: inside, they don't keep it.
        """
        convolution, norm, activation = self
        assert isinstance(convolution, Convolution)
        y = convolution.forward_upsampled(x_BCHW) if upsampled else convolution(x_BCHW)
        if not isinstance(norm, nn.BatchNorm2d) or not self._is_lean():
            return activation(norm(y)), nullcontext()
        image, recipe = norm_relu(y, norm)
        return image, recipe.instead_of_keeping(image)

    def _is_lean(self) -> bool:
        if not (self.training and torch.is_grad_enabled()) or torch.compiler.is_compiling():
            return False
        return self.lean is True


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
        self.attention1: nn.Module = Gate(joined) if scse else nn.Identity()
        self.conv2 = ConvBnRelu(out_channels, out_channels)
        self.attention2: nn.Module = Gate(out_channels) if scse else nn.Identity()
        if not skip_channels:
            # With no skip the first gate is never called. It stays because the reference's
            # weights hold it, and it is frozen so that no optimizer or rank waits for it.
            self.attention1.requires_grad_(False)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor | None) -> Tensor:
        """[B, C, H, W] and [B, S, 2H, 2W] or None → [B, out_channels, 2H, 2W]."""
        if skip_BCHW is None:
            x, with_less_kept = self.conv1.convolve(x_BCHW, upsampled=True)
        else:
            x = functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")
            x = self.attention1(torch.cat([x, skip_BCHW], dim=1))
            x, with_less_kept = self.conv1.convolve(x)
        with with_less_kept:
            x, with_less_kept = self.conv2.convolve(x)
        with with_less_kept:
            gated: Tensor = self.attention2(x)
        return gated


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
