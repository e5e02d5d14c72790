import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import grid_sample

from biomassters.chips.bands import BAND_NAMES
from biomassters.loading.samples import Sample, plain_sample
from biomassters.training import augmentation
from biomassters.training.augmentation import AS_THEY_ARE, Resampler

LIMIT = 400.0
NEARLY_NO_TURN = 1e-9  # goes the way of arbitrary rotation


def images(months: int = 2, side: int = 8, seed: int = 0, width: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(months, 15, side, width or side, generator=generator) + 0.1


def labels(chips: int = 1, side: int = 8, seed: int = 1) -> Tensor:
    return torch.rand(chips, side, side, generator=torch.Generator().manual_seed(seed)) * 300


def sample(months=(0, 1), **given) -> Sample:
    return dataclasses.replace(plain_sample(0, months), **given)


def augment(x: Tensor, agb: Tensor, samples: list[Sample], *, loss_limit: float):
    return augmentation.augment(x.__getitem__, agb, samples, loss_limit=loss_limit)


def rotated(x: Tensor, **given) -> Tensor:
    months = tuple(range(len(x)))
    label = torch.zeros(1, *x.shape[-2:])
    return augment(x, label, [sample(months, **given)], loss_limit=LIMIT)[0]


def test_nothing_asked_nothing_changed() -> None:
    x, agb = images(), labels()
    x_out, agb_out = augment(x, agb, [sample()], loss_limit=LIMIT)
    assert torch.equal(x_out, x)
    assert torch.equal(agb_out, agb)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_flips_and_quarter_turns_are_numpys(flip: bool, turns: int) -> None:
    x, agb = images(), labels()
    x_out, agb_out = augment(x, agb, [sample(flip=flip, quarter_turns=turns)], loss_limit=LIMIT)
    for before, after in ((x, x_out), (agb, agb_out)):
        expected = before.numpy()[..., ::-1] if flip else before.numpy()
        np.testing.assert_array_equal(after, np.rot90(expected, turns, axes=(-2, -1)))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("angle", [NEARLY_NO_TURN, 90.0, 180.0, -90.0])
def test_rotation_by_right_angles_is_indexing(flip: bool, turns: int, angle: float) -> None:
    x, agb = images(side=9), labels(side=9)
    one = sample(flip=flip, quarter_turns=turns, rotation_deg=angle)
    x_out, agb_out = augment(x, agb, [one], loss_limit=LIMIT)
    same = sample(flip=flip, quarter_turns=(turns + round(angle / 90)) % 4)
    x_expected, agb_expected = augment(x, agb, [same], loss_limit=LIMIT)
    torch.testing.assert_close(x_out, x_expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(agb_out, agb_expected, atol=0.05, rtol=0)


def test_unequal_sides_flip_and_rotate() -> None:
    x = images(side=6, width=10)
    one = sample(flip=True, quarter_turns=2, rotation_deg=NEARLY_NO_TURN)
    label = torch.zeros(1, 6, 10)
    x_out, _ = augment(x, label, [one], loss_limit=LIMIT)
    # Mirrored left to right and upside down and back: what is left is up to down.
    torch.testing.assert_close(x_out, x.flip(-2), atol=1e-4, rtol=0)


def test_a_turn_about_another_centre_moves_the_image() -> None:
    x = torch.zeros(1, 15, 8, 8)
    x[:, :, 2, 5] = 1.0
    # Half a turn about (y, x) = (0.25 · 8 − 0.5, 0.75 · 8 − 0.5) = (1.5, 5.5): 2 → 1, 5 → 6.
    out = rotated(x, rotation_deg=180.0, centre_yx=(0.25, 0.75))
    assert out[0, 0, 1, 6] == pytest.approx(1.0, abs=1e-5)


def test_a_slant_is_bilinear() -> None:
    # A ramp is sampled exactly by linear interpolation, away from the mirrored border.
    ramp = torch.arange(1.0, 33.0).expand(1, 15, 32, 32).contiguous()
    out = rotated(ramp, rotation_deg=30.0)
    offset = torch.arange(32.0) - 15.5
    cos, sin = 0.75**0.5, 0.5
    expected = 16.5 - sin * offset[:, None] + cos * offset[None, :]
    inner = slice(10, 22)
    smooth = out[0, :14, inner, inner]
    torch.testing.assert_close(smooth, expected[inner, inner].expand(14, -1, -1), rtol=1e-5, atol=0)
    assert set(out[0, 14].unique().tolist()) <= set(range(1, 33))  # nearest


def test_beyond_the_border_the_image_is_mirrored() -> None:
    x = images(months=1, side=8)
    out = rotated(x, rotation_deg=180.0, centre_yx=(0.5, 0.625))
    # Half a turn about column 4.5: column 0 comes from 9, one past the edge: mirrored, from 6.
    torch.testing.assert_close(out[0, :, :, 0], x[0, :, :, 6].flip(-1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bands", [slice(0, 2), slice(2, 4), slice(4, 14)])
def test_nodata_is_not_smeared_into_valid_pixels(bands: slice) -> None:
    x = torch.full((1, 15, 32, 32), 0.7)
    x[:, bands, :, :13] = 0.0
    out = rotated(x, rotation_deg=33.0)
    values = out[:, bands]
    assert ((values == 0.0) | ((values - 0.7).abs() < 1e-6)).all()
    share = (values == 0.0).float().mean().item()
    assert 0.2 < share < 0.6
    others = [band for band in range(15) if not bands.start <= band < bands.stop]
    torch.testing.assert_close(out[:, others], torch.full_like(out[:, others], 0.7))


def test_a_month_without_a_sensor_stays_without() -> None:
    x = images(months=3, side=16)
    x[0, 4:] = 0.0
    x[1, :2] = 0.0
    out = rotated(x, rotation_deg=20.0)
    assert not out[0, 4:].any()
    assert not out[1, :2].any()
    assert (out[2] > 0.09).all()


def test_one_band_at_zero_is_data_where_its_group_has_any() -> None:
    x = torch.full((1, 15, 16, 16), 0.5)
    x[:, BAND_NAMES.index("B2")] = 0.0
    out = rotated(x, rotation_deg=20.0)
    assert not out[:, BAND_NAMES.index("B2")].any()
    torch.testing.assert_close(out[:, BAND_NAMES.index("B3")], torch.full((1, 16, 16), 0.5))


def test_no_cloud_probability_is_invented() -> None:
    x = images(months=1, side=16)
    x[:, AS_THEY_ARE[0]] = torch.tensor([0.1, 1.0]).repeat(8)  # 25 percent and "none"
    out = rotated(x, rotation_deg=17.0)
    assert out[:, AS_THEY_ARE[0]].unique().tolist() == pytest.approx([0.1, 1.0])


def test_a_label_outlier_is_not_smeared() -> None:
    agb = torch.full((1, 16, 16), 100.0)
    agb[0, 8, 8] = 5000.0
    _, out = augment(images(side=16), agb, [sample(rotation_deg=20.0)], loss_limit=LIMIT)
    assert ((out - 100.0).abs().lt(1e-3) | (out == LIMIT)).all()
    assert 0 < (out == LIMIT).sum() <= 4


def test_an_unlabelled_pixel_stays_out_of_the_loss() -> None:
    agb = torch.full((1, 16, 16), 100.0)
    agb[0, 8:] = float("nan")
    _, out = augment(images(side=16), agb, [sample(rotation_deg=20.0)], loss_limit=LIMIT)
    assert torch.isfinite(out).all()
    assert (out == LIMIT).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_each_chip_is_varied_by_its_own_sample() -> None:
    x, agb = images(months=5), labels(chips=3)
    three = [
        sample((0,), rotation_deg=25.0),
        sample((2, 3, 7), flip=True),
        sample((4,), quarter_turns=1),
    ]
    x_out, agb_out = augment(x, agb, three, loss_limit=LIMIT)
    for index, rows in enumerate([slice(0, 1), slice(1, 4), slice(4, 5)]):
        alone = augment(x[rows], agb[index : index + 1], [three[index]], loss_limit=LIMIT)
        assert torch.equal(x_out[rows], alone[0])
        assert torch.equal(agb_out[index], alone[1][0])


def test_images_without_gaps_take_a_short_way_to_the_same_numbers(monkeypatch) -> None:
    x = images(months=3, side=16)
    x[1, 4:] = 0.0
    short = rotated(x, rotation_deg=20.0)
    monkeypatch.setattr(augmentation, "_is_even", lambda x_MCHW: False)
    torch.testing.assert_close(rotated(x, rotation_deg=20.0), short, rtol=1e-6, atol=0)


def test_images_are_scaled_piece_by_piece_each_once() -> None:
    x, asked = images(months=5), []

    def scaled(months: slice) -> Tensor:
        asked.extend(range(5)[months])
        return x[months]

    two = [sample((0, 4), rotation_deg=20.0), sample((1, 2, 3))]
    augmentation.augment(scaled, labels(chips=2), two, loss_limit=LIMIT)
    assert asked == [0, 1, 2, 3, 4]


@settings(deadline=None, max_examples=40)
@given(
    st.floats(-45, 45).filter(bool), st.floats(0.4, 0.6), st.floats(0.4, 0.6), st.integers(0, 99)
)
def test_rotation_never_leaves_the_range_of_the_values(angle, centre_y, centre_x, seed) -> None:
    x = images(months=1, side=12, seed=seed)
    x[:, :, : seed % 12, : seed % 7] = 0.0
    out = rotated(x, rotation_deg=angle, centre_yx=(centre_y, centre_x))
    nonzero = out[out != 0]
    assert nonzero.min() >= 0.1 - 1e-5
    assert nonzero.max() <= 1.1 + 1e-5


@settings(deadline=None, max_examples=20)
@given(st.floats(-45, 45).filter(bool))
def test_image_and_label_move_together(angle) -> None:
    agb = labels(side=16)
    x = (agb[0] / 300).expand(1, 15, 16, 16).contiguous() + 0.001
    x_out, agb_out = augment(x, agb, [sample((0,), rotation_deg=angle)], loss_limit=LIMIT)
    torch.testing.assert_close(x_out[0, 0] - 0.001, agb_out[0] / 300, atol=1e-4, rtol=0)


CPU = torch.device("cpu")
UNMOVED = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def pictures(count: int = 2, height: int = 12, width: int = 20) -> Tensor:
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
    take, image = Resampler(UNMOVED, 12, 20, CPU), pictures()
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
    source, image = turned(degrees, y, x), pictures()
    out = Resampler(source, 12, 20, CPU).bilinear(image)
    torch.testing.assert_close(out, torchs(image, source, "bilinear"), atol=2e-5, rtol=0)


@pytest.mark.parametrize("degrees", [17.0, -33.3, 140.0])
def test_the_nearest_pixel_is_torchs(degrees: float) -> None:
    source, image = turned(degrees, 5.3, 8.1), pictures()
    out = Resampler(source, 12, 20, CPU).nearest(image[:, 1])
    assert torch.equal(out, torchs(image, source, "nearest")[:, 1])


def test_one_image_comes_out_channels_last_and_as_among_others() -> None:
    take, image = Resampler(turned(20.0, 5.0, 9.0), 12, 20, CPU), pictures(3)
    alone = take.bilinear(image[1:2])
    assert alone.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(alone, take.bilinear(image)[1:2])


def test_the_total_weight_is_what_becomes_of_ones() -> None:
    take = Resampler(turned(20.0, 5.0, 9.0), 12, 20, CPU)
    ones = take.bilinear(torch.ones(1, 3, 12, 20))
    torch.testing.assert_close(take.total_weight, ones[0, 0], rtol=0, atol=1e-6)
