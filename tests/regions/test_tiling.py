from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio import windows

from biomassters.regions.tiling import Axis, Tiling

axes = st.builds(
    Axis.of,
    length=st.integers(1, 700),
    chip=st.integers(1, 8).map(lambda step: 32 * step),
    overlap=st.floats(0, 0.9),
    window=st.integers(1, 600),
)


@given(axes)
def test_weights_sum_to_one_at_every_pixel(axis):
    total = np.zeros(axis.starts[-1] + axis.chip)
    for start, weight in zip(axis.starts, axis.weights, strict=True):
        assert weight.min() >= 0
        total[start : start + axis.chip] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(axes)
def test_chips_stay_inside_unless_the_region_is_smaller(axis):
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.chip == max(axis.length, axis.chip)
    assert all(b - a <= axis.chip for a, b in pairwise(axis.starts))
    assert axis.chip % 32 == 0
    assert axis.chip < axis.length + 32


@given(axes)
def test_cores_tile_the_region_within_their_blocks(axis):
    cores = [axis.core(block) for block in range(axis.block_count)]
    assert cores[0][0] == 0
    assert cores[-1][1] == axis.length
    assert all(a[1] == b[0] for a, b in pairwise(cores))
    for block, core in enumerate(cores):
        start, end = axis.extent(block)
        assert start <= core[0]
        assert min(core[1], axis.length) <= end


def test_by_hand():
    axis = Axis.of(160, chip=64, overlap=0.5, window=64)
    assert axis.stride == 32
    assert axis.starts == (0, 32, 64, 96)
    assert [axis.extent(block) for block in range(2)] == [(0, 96), (64, 160)]
    assert [axis.core(block) for block in range(2)] == [(0, 64), (64, 160)]
    # Between two chips: sin² of a quarter turn over the 32 pixels that they share.
    rising = np.sin(np.pi / 2 * (np.arange(32) + 0.5) / 32) ** 2
    np.testing.assert_allclose(axis.weights[0][32:], 1 - rising, atol=1e-6)
    np.testing.assert_allclose(axis.weights[0][:32], 1)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
def test_touching_blocks_are_all_that_share_pixels(overlap):
    axis = Axis.of(300, 64, overlap, 100)
    tiling = Tiling(axis, axis)
    for block in tiling.blocks():
        core = tiling.core(block)
        found = tiling.touching(core)
        assert block in found
        for other in tiling.blocks():
            apart = not windows.intersect(tiling.extent(other), core)
            assert (other in found) != apart
