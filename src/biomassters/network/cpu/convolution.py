"""The decoder's 3×3 convolution, computed the way that was measured to be fastest.

Below ``Convolution`` stand the ways that are not torch's own, of which all give the same numbers:
sub-pixel convolution of an upsampled image, and tiles of 2×2 outputs with fewer multiplications.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:  # pydantic, without which the network can be built and measured
    from biomassters.network.options import Choice

# Where tiles were faster than the library's convolution: float32 on a CPU (benchmarks/results).
TILES_MIN_WEIGHTS = 192 * 192
TILES_MIN_SIDE = 32
UPSAMPLED_TILES_MIN_WEIGHTS = 48 * 48


class Convolution(nn.Conv2d):
    """A 3×3 convolution, C → N channels, with padding 1; the weights are the same whatever the way.

    Where a way is chosen by ``"auto"``, it is the one that was measured to be faster.

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
            # In bfloat16 it gains in the backward pass alone (benchmarks/results/network.md).
            gains = torch.is_grad_enabled() or not torch.is_autocast_enabled("cpu")
            subpixel = x_BCHW.device.type == "cpu" and gains
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
    output pixel meets 2×2. Takes 4/9 of the multiplications and never makes the large input:
    [B, C, H, W] with weights [N, C, 3, 3] → [B, N, 2H, 2W].
    """
    taps = weight.new_tensor([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])  # [3, 4], reversed
    kernel_CN44 = torch.einsum("nckl,ka,lb->cnab", weight, taps, taps)
    return functional.conv_transpose2d(x_BCHW, kernel_CN44, stride=2, padding=1)


# ---- Tiles
#
# A tile is (outputs)·[(kernel)·w ⊙ (inputs)·x], in rows and columns alike:
#
# * ``WINOGRAD``: F(2×2, 3×3) of Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks",
#   CVPR 2016: 16 multiplications a tile instead of 36.
# * ``UPSAMPLED``: the convolution of a nearest-upsampled image, computed from the small image. A
#   tile of 2×2 outputs sees 3×3 small pixels; as four 2×2 sub-pixel convolutions it takes 16
#   multiplications, and on differences of neighbours 9, since w₀·x₋ + (w₁+w₂)·x and
#   (w₀+w₁)·x + w₂·x₊ are (w₀+w₁+w₂)·x plus w₀·(x₋−x) and w₂·(x₊−x).
#
# Tiles are made strip by strip, so that those of a strip stay in the processor's cache; the
# backward pass makes them again instead of keeping them.

STRIP_BYTES = 8_000_000  # of tiles at once; a few such buffers fit a cache of 32 MB
Terms = tuple[tuple[int, int], ...]  # (which, sign), summed


@dataclass(frozen=True)
class Scheme:
    """One dimension of a tile."""

    step: int  # input pixels from one tile to the next
    inputs: tuple[Terms, ...]  # for each product, the tile's input pixels that it takes
    # For each product, its weights of the three kernel columns.
    kernel: tuple[tuple[float, float, float], ...]
    outputs: tuple[Terms, Terms]  # for each of the two outputs, the products that it sums

    @property
    def products(self) -> int:
        """Multiplications for two outputs."""
        return len(self.inputs)

    def outputs_of_product(self) -> list[Terms]:
        """For each product, the outputs that it goes into."""
        return [
            tuple((i, sign) for i, terms in enumerate(self.outputs) for k, sign in terms if k == p)
            for p in range(self.products)
        ]


WINOGRAD = Scheme(
    step=2,
    inputs=(((0, 1), (2, -1)), ((1, 1), (2, 1)), ((2, 1), (1, -1)), ((1, 1), (3, -1))),
    kernel=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    outputs=(((0, 1), (1, 1), (2, 1)), ((1, 1), (2, -1), (3, -1))),
)
UPSAMPLED = Scheme(
    step=1,
    inputs=(((0, 1), (1, -1)), ((1, 1),), ((2, 1), (1, -1))),
    kernel=((1, 0, 0), (1, 1, 1), (0, 0, 1)),
    outputs=(((1, 1), (0, 1)), ((1, 1), (2, 1))),
)


def convolve_tiles(x_BCHW: Tensor, weight: Tensor, scheme: Scheme) -> Tensor:
    """A 3×3 convolution with padding 1: [B, C, H, W] with weights [N, C, 3, 3] → [B, N, H, W].

    Best of channels_last, as the result is; for ``WINOGRAD`` of even height and width.
    ``UPSAMPLED`` convolves the nearest-upsampled input, to [B, N, 2H, 2W].
    """
    y_BHWN: Tensor = _TileConvolution.apply(x_BCHW.permute(0, 2, 3, 1), weight, scheme)
    return y_BHWN.permute(0, 3, 1, 2)


def _kernel_map(scheme: Scheme, weight: Tensor) -> Tensor:
    """[P², 9]: what each product takes of the nine weights."""
    rows = torch.tensor(scheme.kernel, dtype=weight.dtype, device=weight.device)
    return torch.kron(rows, rows)


def _kernels(scheme: Scheme, weight: Tensor) -> Tensor:
    """[P², C, N]: what multiplies each product."""
    folded: Tensor = weight.flatten(2) @ _kernel_map(scheme, weight).t()
    return folded.permute(2, 1, 0).contiguous()


class _TileConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHWC: Tensor, weight: Tensor, scheme: Scheme) -> Tensor:
        ctx.save_for_backward(x_BHWC, weight)
        ctx.scheme = scheme
        kernels_PCN = _kernels(scheme, weight)
        tiles = _Tiles(scheme, x_BHWC, kernels_PCN)
        y = x_BHWC.new_empty((len(x_BHWC), tiles.high, 2, tiles.wide, 2, kernels_PCN.shape[2]))
        for x, out in zip(x_BHWC, y, strict=True):
            tiles.pad(x)
            for top, bottom in tiles.strips():
                products = torch.bmm(tiles.inputs(top, bottom), kernels_PCN)
                tiles.outputs(products, out[top:bottom])
        return y.flatten(3, 4).flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x_BHWC, weight = ctx.saved_tensors
        kernels_PCN = _kernels(ctx.scheme, weight)
        tiles = _Tiles(ctx.scheme, x_BHWC, kernels_PCN)
        g = gradient.contiguous().unflatten(2, (tiles.wide, 2)).unflatten(1, (tiles.high, 2))
        grad_x, grad_kernels = torch.empty_like(x_BHWC), torch.zeros_like(kernels_PCN)
        turned_PNC = kernels_PCN.transpose(1, 2)
        padded = torch.empty_like(tiles.padded)
        for x, gradient_out, grad in zip(x_BHWC, g, grad_x, strict=True):
            tiles.pad(x)
            padded.zero_()
            for top, bottom in tiles.strips():
                inputs = tiles.inputs(top, bottom)
                products = tiles.outputs_adjoint(gradient_out[top:bottom])
                grad_kernels.baddbmm_(inputs.transpose(1, 2), products)
                tiles.inputs_adjoint(torch.bmm(products, turned_PNC), padded, top, bottom)
            grad.copy_(padded[1:-1, 1:-1])
        grad_weight = grad_kernels.permute(2, 1, 0) @ _kernel_map(ctx.scheme, weight)
        return grad_x, grad_weight.view_as(weight), None


class _Tiles:
    """The linear maps between one image and its tiles, and their adjoints."""

    def __init__(self, scheme: Scheme, x_BHWC: Tensor, kernels_PCN: Tensor) -> None:
        height, width, channels = x_BHWC.shape[1:]
        self.scheme = scheme
        self.high, self.wide = height // scheme.step, width // scheme.step
        self.padded = x_BHWC.new_zeros((height + 2, width + 2, channels))
        row = scheme.products**2 * self.wide * max(kernels_PCN.shape[1:]) * x_BHWC.element_size()
        self.rows = min(self.high, max(1, STRIP_BYTES // row))

    def pad(self, x_HWC: Tensor) -> None:
        """Take up the next image."""
        self.padded[1:-1, 1:-1] = x_HWC

    def strips(self) -> list[tuple[int, int]]:
        """First and last + 1 row of tiles of each strip."""
        starts = range(0, self.high, self.rows)
        return [(start, min(start + self.rows, self.high)) for start in starts]

    def inputs(self, top: int, bottom: int) -> Tensor:
        """[P², tiles, C]: what each product takes of each tile."""
        count, step = self.scheme.products, self.scheme.step
        rows = self.padded.new_empty((count, bottom - top, *self.padded.shape[1:]))
        for out, terms in zip(rows, self.scheme.inputs, strict=True):
            taken = [
                (_every(self.padded, 0, step * top + k, step, bottom - top), s) for k, s in terms
            ]
            _sum(out, taken)
        tiles = rows.new_empty((count, count, bottom - top, self.wide, rows.shape[-1]))
        for column, terms in enumerate(self.scheme.inputs):
            _sum(tiles[:, column], [(_every(rows, 2, k, step, self.wide), s) for k, s in terms])
        return tiles.flatten(2, 3).flatten(0, 1)

    def inputs_adjoint(self, tiles: Tensor, padded: Tensor, top: int, bottom: int) -> None:
        """Add to the gradient of the padded image what the tiles' gradients say."""
        count, step = self.scheme.products, self.scheme.step
        tiles = tiles.view(count, count, bottom - top, self.wide, -1)
        rows = tiles.new_zeros((count, bottom - top, *padded.shape[1:]))
        for column, terms in enumerate(self.scheme.inputs):
            for k, sign in terms:
                _every(rows, 2, k, step, self.wide).add_(tiles[:, column], alpha=sign)
        for row, terms in zip(rows, self.scheme.inputs, strict=True):
            for k, sign in terms:
                _every(padded, 0, step * top + k, step, bottom - top).add_(row, alpha=sign)

    def outputs(self, products: Tensor, out: Tensor) -> None:
        """Sum the products [P², tiles, N] to outputs [rows, 2, columns, 2, N]."""
        count = self.scheme.products
        products = products.view(count, count, len(out), self.wide, -1)
        rows = products.new_empty((2, *products.shape[1:]))
        for row, terms in zip(rows, self.scheme.outputs, strict=True):
            _sum(row, [(products[k], sign) for k, sign in terms])
        for i, row in enumerate(rows):
            for j, terms in enumerate(self.scheme.outputs):
                _sum(out[:, i, :, j], [(row[k], sign) for k, sign in terms])

    def outputs_adjoint(self, g: Tensor) -> Tensor:
        """[P², tiles, N]: the products' gradients."""
        columns = self.scheme.outputs_of_product()
        count = len(columns)
        rows = g.new_empty((count, len(g), self.wide, 2, g.shape[-1]))
        for row, terms in zip(rows, columns, strict=True):
            _sum(row, [(g[:, i], sign) for i, sign in terms])
        products = g.new_empty((count, count, len(g), self.wide, g.shape[-1]))
        for column, terms in enumerate(columns):
            _sum(products[:, column], [(rows[:, :, :, j], sign) for j, sign in terms])
        return products.flatten(2, 3).flatten(0, 1)


def _every(x: Tensor, axis: int, start: int, step: int, count: int) -> Tensor:
    index = (slice(None),) * axis + (slice(start, start + step * (count - 1) + 1, step),)
    return x[index]


def _sum(out: Tensor, terms: list[tuple[Tensor, int]]) -> None:
    (first, sign), *rest = terms
    if not rest:
        torch.mul(first, sign, out=out)
        return
    (second, other), *rest = rest
    if sign < 0:
        torch.neg(first, out=out)
        out.add_(second, alpha=other)
    else:
        torch.add(first, second, alpha=other, out=out)
    for term, another in rest:
        out.add_(term, alpha=another)
