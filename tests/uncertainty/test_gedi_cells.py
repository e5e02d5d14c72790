"""Cells whose errors are all alike: a cell's standard error is that of its pixels."""

import numpy as np
import pytest

from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.gedi_cells import GediCells
from biomassters.uncertainty.totals import RegionTotals

# Standard error 5 Mg/ha below a prediction of 50, 21 above.
ALIKE = ErrorModel(
    (50.0,), (0.0, 0.0), (5.0, 21.0), (0.0, 1e7), (1.0, 1.0), 1.0, (0.0,) * 4, 0.9, 12
)


def counted(agb, model=ALIKE, pixel=10.0, block=(70, 130)):
    """Blocks that fit no cell, the last one first."""
    cells = GediCells(model, pixel)
    starts = [(y, x) for y in range(0, agb.shape[0], block[0])
              for x in range(0, agb.shape[1], block[1])]  # fmt: skip
    for top, left in reversed(starts):
        part = agb[top : top + block[0], left : left + block[1]]
        areas = np.full(part.shape, pixel**2 / 10_000)
        cells.update(part, ~np.isnan(part), top, left, areas)
    return cells.result()


def test_cells_worked_by_hand():
    """Six whole cells of 100 x 100 pixels, of which one has a hole.

    5 of 10 Mg/ha is within 20, 21 of 110 within 22; 21 of 60 is neither within 20 nor within 12.
    """
    agb = np.full((250, 310), 60.0)
    agb[:100, :100] = 10.0
    agb[100:200, 200:300] = 110.0
    agb[120, 150] = np.nan
    assert counted(agb) == {"gedi_cells": 5, "gedi_cells_within": 2 / 5}


def test_errors_that_cancel_are_within():
    independent = ErrorModel(
        (), (0.0,), (60.0,), (0.0, 0.001), (1.0, 0.0), 1.0, (0.0,), 0.9, 12
    )  # 60 / 100 = 0.6 Mg/ha
    assert counted(np.full((100, 100), 60.0), independent)["gedi_cells_within"] == 1
    one = RegionTotals(independent, 10.0)
    one.update(np.full((100, 100), 60.0), np.ones((100, 100), bool), 0, 0)
    assert one.total().standard_error == pytest.approx(0.6)


def test_a_cell_has_the_pixels_of_a_kilometre():
    assert counted(np.full((50, 99), 10.0), pixel=20.0)["gedi_cells"] == 1
    assert counted(np.full((200, 200), 10.0), pixel=9.995)["gedi_cells"] == 4


def test_no_whole_cell_says_nothing():
    assert counted(np.full((99, 500), 10.0)) == {}


def test_a_cell_is_forgotten_when_it_was_seen():
    cells = GediCells(ALIKE, 10.0)
    holes = np.where(np.eye(100, dtype=bool), np.nan, 60.0)
    for column in range(50):
        cells.update(holes, ~np.isnan(holes), 0, 100 * column, np.full((100, 100), 0.01))
    assert not cells._open
    assert cells.result() == {}
