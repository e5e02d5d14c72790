import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomassters.simulation.random_fields import (
    Window,
    mix,
    normal,
    patch_uniform,
    patches,
    smooth,
    uniform,
    warped_place,
)

BIG = Window(-50, 1000, 256, 256)
windows = st.builds(
    Window,
    st.integers(-(10**5), 10**5),
    st.integers(-(10**5), 10**5),
    st.integers(1, 40),
    st.integers(1, 40),
)


def _fields(window):
    place = warped_place(window, 3, "warp", grain=20, shift=3)
    return {
        "uniform": uniform(window, 3, "a"),
        "normal": normal(window, 3, "b", count=3)[2],
        "smooth": smooth(window, 3, "c", grain=7, octaves=3),
        "patches": patches(place, 3, "d", spacing=9),
    }


@settings(max_examples=30, deadline=None)
@given(windows, st.integers(0, 8), st.integers(0, 8))
def test_two_windows_agree_where_they_meet(window, down, right):
    larger = Window(window.top - down, window.left - right, window.height + 9, window.width + 10)
    rows = slice(down, down + window.height)
    columns = slice(right, right + window.width)
    whole = _fields(larger)
    for name, part in _fields(window).items():
        cut = whole[name][rows, columns]
        if name == "patches":  # a border pixel may fall to its neighbour by rounding
            assert (part == cut).mean() > 0.97
        else:
            np.testing.assert_allclose(part, cut, atol=2e-5)


def test_white_noise_has_its_moments_and_no_structure():
    noise = normal(BIG, 1, "x", count=2).astype(float)
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert abs((noise[0] * noise[1]).mean()) < 0.02
    for axis in (0, 1):
        assert abs((noise[0] * np.roll(noise[0], 1, axis)).mean()) < 0.02


def test_uniform_noise_is_never_zero_or_one():
    draw = uniform(BIG, 1, "u")
    assert 0 < draw.min() < 0.001
    assert 0.999 < draw.max() < 1
    assert np.histogram(draw, 8, (0, 1))[0] == pytest.approx(BIG.height * BIG.width / 8, rel=0.05)


def test_smooth_noise_is_standard_normal_at_every_pixel():
    draws = np.stack([smooth(Window(0, 0, 9, 9), seed, "s", grain=5) for seed in range(800)])
    assert np.abs(draws.mean(axis=0)).max() < 0.15
    assert draws.std(axis=0) == pytest.approx(1, abs=0.12)


def test_a_coarser_grain_changes_more_slowly():
    fine, coarse = (smooth(BIG, 1, "g", grain=grain) for grain in (4, 40))
    assert np.diff(coarse, axis=0).std() < 0.2 * np.diff(fine, axis=0).std()


def test_names_and_seeds_give_unlike_fields():
    first = normal(BIG, 1, "x")[0]
    for other in (normal(BIG, 1, "y")[0], normal(BIG, 2, "x")[0], normal(BIG, 1, "x", 0)[0]):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02


def test_mix_is_one_to_one():
    numbers = np.arange(100_000, dtype=np.uint32)
    assert len(np.unique(mix(numbers))) == len(numbers)


def test_patches_have_about_the_size_of_a_lattice_square():
    place = warped_place(BIG, 1, "w", grain=30, shift=2)
    patch = patches(place, 1, "p", spacing=16)
    assert len(np.unique(patch)) == pytest.approx(256, rel=0.3)
    assert (patch[:, 1:] == patch[:, :-1]).mean() > 0.85
    one = patch == patch[100, 100]
    assert np.unique(patch_uniform(patch, "age")[one]).size == 1
