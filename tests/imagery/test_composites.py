"""Which parts of a block are read."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biomassters.imagery.composites import _TILE, _windows_with


def pixels_of(tiles):
    """A mask whose tiles each hold one pixel, or none; the last ones are cut."""
    mask = np.zeros((tiles.shape[0] * _TILE - 100, tiles.shape[1] * _TILE - 7), bool)
    mask[::_TILE, ::_TILE] = tiles
    return mask


@given(arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 4))))
def test_windows_hold_every_pixel_once_and_no_empty_row_of_tiles(tiles):
    mask = pixels_of(tiles)
    read = np.zeros(mask.shape, np.uint8)
    for window in _windows_with(mask):
        rows, columns = window.toslices()
        read[rows, columns] += 1
    assert read[mask].all()
    assert read.max() <= 1
    for row, tile_row in enumerate(tiles):
        held = np.flatnonzero(tile_row)
        expected = np.zeros(mask.shape[1], np.uint8)
        if held.size:
            expected[held[0] * _TILE : (held[-1] + 1) * _TILE] = 1
        np.testing.assert_array_equal(read[row * _TILE], expected)


def test_rows_of_tiles_alike_are_one_window():
    whole = pixels_of(np.ones((3, 2), bool))
    assert [window.flatten() for window in _windows_with(whole)] == [(0, 0, *whole.shape[::-1])]
