import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from biomassters.network.cpu import convolution
from biomassters.network.cpu.convolution import (
    UPSAMPLED,
    WINOGRAD,
    Convolution,
    convolve_tiles,
    convolve_upsampled,
)


def _upsample(x):
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _plain(x, weight):
    return functional.conv2d(x, weight, padding=1)


WAYS = {
    "winograd": (lambda x, w: convolve_tiles(x, w, WINOGRAD), _plain),
    "upsampled": (
        lambda x, w: convolve_tiles(x, w, UPSAMPLED),
        lambda x, w: _plain(_upsample(x), w),
    ),
    "transposed": (convolve_upsampled, lambda x, w: _plain(_upsample(x), w)),
}


@settings(max_examples=15, deadline=None)
@given(
    way=st.sampled_from(sorted(WAYS)),
    sizes=st.tuples(*[st.integers(1, 4)] * 5),
    strip_bytes=st.sampled_from([1, 5000, 10**7]),
)
def test_output_and_gradients_are_the_plain_ones(way, sizes, strip_bytes):
    batch, channels, width, high, wide = sizes
    x = torch.randn(batch, channels, 2 * high, 2 * wide, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(width, channels, 3, 3, dtype=torch.float64, requires_grad=True)
    function, plain = WAYS[way]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "STRIP_BYTES", strip_bytes)
        found, expected = function(x, weight), plain(x, weight)
        towards = torch.randn_like(expected)
        gradients = torch.autograd.grad(found, (x, weight), towards)
    torch.testing.assert_close(found, expected)
    for gradient, wanted in zip(
        gradients, torch.autograd.grad(expected, (x, weight), towards), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("way", WAYS)
def test_float32_stays_within_rounding(way):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 64, 16, 16), torch.randn(32, 64, 3, 3)
    function, plain = WAYS[way]
    expected = plain(x.double(), weight.double())
    error = (function(x, weight).double() - expected).abs().max() / expected.abs().max()
    assert error < 2e-6


def test_one_pixel_by_hand():
    # A single 2 in the middle pixel of a small image, kernel 1 … 9: each of the upsampled image's
    # four 2s meets the kernel turned by 180 degrees.
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 2
    weight = torch.arange(1.0, 10).view(1, 1, 3, 3)
    expected = torch.zeros(6, 6)
    for row in (2, 3):
        for column in (2, 3):
            expected[row - 1 : row + 2, column - 1 : column + 2] += 2 * weight[0, 0].flip(0, 1)
    for y in (convolve_tiles(x, weight, UPSAMPLED), convolve_upsampled(x, weight)):
        torch.testing.assert_close(y[0, 0], expected)


@pytest.mark.parametrize("subpixel", [True, False, "auto"])
@pytest.mark.parametrize("channels", [3, 64])
def test_a_bias_is_added_whatever_the_way(subpixel, channels):
    convolution = Convolution(channels, 64)
    convolution.bias = torch.nn.Parameter(torch.arange(64.0))
    convolution.subpixel = subpixel
    x = torch.rand(1, channels, 4, 4)
    expected = functional.conv2d(_upsample(x), convolution.weight, convolution.bias, padding=1)
    torch.testing.assert_close(convolution.forward_upsampled(x), expected)


def test_winograd_needs_even_sizes_and_leaves_others_alone():
    convolution = Convolution(2, 2)
    convolution.winograd = True
    x = torch.rand(1, 2, 5, 4)
    torch.testing.assert_close(convolution(x), _plain(x, convolution.weight))


@pytest.mark.parametrize(
    ("learning", "lowered", "subpixel"),
    [(True, True, True), (False, True, False), (False, False, True)],
)
def test_in_bfloat16_sub_pixels_are_left_to_learning(monkeypatch, learning, lowered, subpixel):
    taken = []

    def noted(x, weight):
        taken.append(x)
        return convolve_upsampled(x, weight)

    monkeypatch.setattr(convolution, "convolve_upsampled", noted)
    x = torch.rand(1, 4, 8, 8)
    with torch.set_grad_enabled(learning), torch.autocast("cpu", torch.bfloat16, enabled=lowered):
        Convolution(4, 4).forward_upsampled(x)
    assert bool(taken) == subpixel
