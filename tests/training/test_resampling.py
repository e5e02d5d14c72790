import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import grid_sample

from biomassters.training.resampling import Resampler

CPU = torch.device("cpu")
UNMOVED = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def images(count: int = 2, height: int = 12, width: int = 20) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def turned(degrees: float, y: float, x: float) -> np.ndarray:
    """Turns about (y, x)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin, y - cos * y - sin * x], [-sin, cos, x + sin * y - cos * x]])


def torchs(image: Tensor, source: np.ndarray, mode: str) -> Tensor:
    """What torch makes of the same positions."""
    height, width = image.shape[-2:]
    grid_yx = np.stack(np.mgrid[:height, :width], axis=-1) @ source[:, :2].T + source[:, 2]
    grid_xy = (2 * grid_yx[..., ::-1] + 1) / [width, height] - 1
    grid = torch.tensor(grid_xy, dtype=torch.float32).expand(len(image), -1, -1, -1)
    return grid_sample(image, grid, mode, padding_mode="reflection", align_corners=False)


def test_unmoved_everything_stays() -> None:
    take, image = Resampler(UNMOVED, 12, 20, CPU), images()
    torch.testing.assert_close(take.bilinear(image), image, atol=1e-5, rtol=0)
    assert torch.equal(take.nearest(image[:, 0]), image[:, 0])


def test_half_a_pixel_to_the_right_is_the_mean_of_two_and_mirrored_at_the_border() -> None:
    shifted = UNMOVED + np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
    row = torch.tensor([1.0, 2.0, 4.0, 8.0]).expand(1, 1, 4, 4)
    out = Resampler(shifted, 4, 4, CPU).bilinear(row)
    # The last position lies on the edge: between the last pixel and its mirror image.
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([1.5, 3.0, 6.0, 8.0]))


def test_far_beyond_the_border_the_image_is_mirrored_again() -> None:
    shifted = UNMOVED + np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    row = torch.tensor([1.0, 2.0]).expand(1, 1, 2, 2)
    # 1 2 | 2 1 | 1 2 | 2 1: the sixth and seventh.
    out = Resampler(shifted, 2, 2, CPU).bilinear(row)
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([2.0, 2.0]))


@settings(deadline=None, max_examples=40)
@given(st.floats(-180, 180), st.floats(-3, 15), st.floats(-3, 23))
def test_interpolation_is_torchs(degrees: float, y: float, x: float) -> None:
    source, image = turned(degrees, y, x), images()
    out = Resampler(source, 12, 20, CPU).bilinear(image)
    torch.testing.assert_close(out, torchs(image, source, "bilinear"), atol=2e-5, rtol=0)


@pytest.mark.parametrize("degrees", [17.0, -33.3, 140.0])
def test_the_nearest_pixel_is_torchs(degrees: float) -> None:
    source, image = turned(degrees, 5.3, 8.1), images()
    out = Resampler(source, 12, 20, CPU).nearest(image[:, 1])
    assert torch.equal(out, torchs(image, source, "nearest")[:, 1])


def test_one_image_comes_out_channels_last_and_as_among_others() -> None:
    take, image = Resampler(turned(20.0, 5.0, 9.0), 12, 20, CPU), images(3)
    alone = take.bilinear(image[1:2])
    assert alone.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(alone, take.bilinear(image)[1:2])


def test_the_total_weight_is_what_becomes_of_ones() -> None:
    take = Resampler(turned(20.0, 5.0, 9.0), 12, 20, CPU)
    ones = take.bilinear(torch.ones(1, 3, 12, 20))
    torch.testing.assert_close(take.total_weight, ones[0, 0], rtol=0, atol=1e-6)
