"""The decoder's 3×3 convolution, computed the way that was measured to be fastest.

``tiled_convolution`` has the ways that are not torch's own.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from biomassters.network.cpu.tiled_convolution import UPSAMPLED, WINOGRAD, convolve_tiles

if TYPE_CHECKING:  # pydantic, without which the network can be built and measured
    from biomassters.network.options import Choice

# Where tiles were faster than the library's convolution: float32 on a CPU (benchmarks/results).
TILES_MIN_WEIGHTS = 192 * 192
TILES_MIN_SIDE = 32
UPSAMPLED_TILES_MIN_WEIGHTS = 48 * 48


class Convolution(nn.Conv2d):
    """A 3×3 convolution with padding 1; whatever the way, the weights are the same.

    Where a way is chosen by ``"auto"``, it is the one that was measured to be faster.

    Args:
        in_channels: C.
        out_channels: N.

    Attributes:
        winograd: Compute the image in Winograd tiles.
        subpixel: Convolve an upsampled image at its low resolution.
    """

    winograd: "Choice" = "auto"
    subpixel: "Choice" = "auto"

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """[B, C, H, W] → [B, N, H, W]."""
        if self.winograd is not False and self._tiles_fit(input):
            return self._with_bias(convolve_tiles(input, self.weight, WINOGRAD))
        return super().forward(input)

    def forward_upsampled(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, N, 2H, 2W]: what ``forward`` gives of the nearest-upsampled image."""
        subpixel = self.subpixel
        if subpixel == "auto":
            subpixel = x_BCHW.device.type == "cpu"
        if not subpixel:
            return self(functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
        enough = self.weight.shape[0] * self.weight.shape[1] >= UPSAMPLED_TILES_MIN_WEIGHTS
        if enough and _plain_float32_on_cpu(x_BCHW):
            return self._with_bias(convolve_tiles(x_BCHW, self.weight, UPSAMPLED))
        return self._with_bias(convolve_upsampled(x_BCHW, self.weight))

    def _tiles_fit(self, x_BCHW: Tensor) -> bool:
        height, width = x_BCHW.shape[2:]
        if height % 2 or width % 2 or torch.compiler.is_compiling():
            return False
        if self.winograd is True:
            return not torch.is_autocast_enabled(x_BCHW.device.type)
        enough = self.weight.shape[0] * self.weight.shape[1] >= TILES_MIN_WEIGHTS
        return enough and min(height, width) >= TILES_MIN_SIDE and _plain_float32_on_cpu(x_BCHW)

    def _with_bias(self, y_BNHW: Tensor) -> Tensor:
        if self.bias is None:
            return y_BNHW
        bias = self.bias[:, None, None]
        return y_BNHW + bias if torch.is_grad_enabled() else y_BNHW.add_(bias)


def _plain_float32_on_cpu(x: Tensor) -> bool:
    return (
        x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    )


def convolve_upsampled(x_BCHW: Tensor, weight: Tensor) -> Tensor:
    """The 3×3 convolution of a nearest-upsampled image as four 2×2 sub-pixel convolutions.

    Written as one transposed convolution: upsampling is one with a 2×2 kernel of ones and stride
    2, and two convolutions in a row are one with the convolved kernel, here 4×4, of which each
    output pixel meets 2×2. Takes 4/9 of the multiplications and never makes the large input.

    Args:
        x_BCHW: The image before upsampling.
        weight: [N, C, 3, 3].

    Returns:
        [B, N, 2H, 2W].
    """
    taps = weight.new_tensor([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])  # [3, 4], reversed
    kernel_CN44 = torch.einsum("nckl,ka,lb->cnab", weight, taps, taps)
    return functional.conv_transpose2d(x_BCHW, kernel_CN44, stride=2, padding=1)
