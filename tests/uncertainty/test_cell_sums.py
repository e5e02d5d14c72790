import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.uncertainty.cell_sums import FINEST_PIXELS, CellSums


def summed(image_CHW, side):
    """Sums by cell, the plain way."""
    _, height, width = image_CHW.shape
    rows, columns = -(-height // side), -(-width // side)
    out = np.zeros((len(image_CHW), rows, columns))
    for row, column in np.ndindex(rows, columns):
        cell = image_CHW[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        out[:, row, column] = cell.sum(axis=(1, 2))
    return out


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 30))
def test_blocks_of_any_size_give_the_sums_of_the_whole(height, width, block, most):
    image = np.random.default_rng([height, width]).random((2, height, width))
    cells = CellSums(2, most)
    for top in range(0, height, block):
        for left in range(0, width, block):
            cells.add(image[:, top : top + block, left : left + block], top, left)
    assert cells.sums[0].size <= most
    np.testing.assert_allclose(cells.sums, summed(image, cells.side))


def test_cells_are_joined_only_where_they_must():
    cells = CellSums(1, most=4)
    cells.add(np.ones((1, 32, 32)), 0, 0)
    assert cells.side == FINEST_PIXELS
    cells.add(np.ones((1, 1, 1)), 32, 32)
    assert cells.side == 2 * FINEST_PIXELS
    assert cells.sums.tolist() == [[[1024, 0], [0, 1]]]


def test_a_country_stays_small():
    """50,000 x 50,000 pixels: what is kept doesn't grow with it."""
    cells = CellSums(2)
    for place in range(0, 50_000, 500):
        cells.add(np.ones((2, 500, 500)), place, place)
    assert cells.sums.nbytes <= 2 * 8 * 2**20
    assert cells.sums[0].sum() == pytest.approx(100 * 500**2)
