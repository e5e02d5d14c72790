import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.totals import (
    FINEST_PIXELS,
    CellSums,
    GediCells,
    RegionTotals,
    total_of_map,
)


def model(**changes):
    values = {
        "edges": (50.0,),
        "bias": (2.0, -10.0),
        "deviation": (5.0, 20.0),
        "distance_m": (0.0, 10.0, 100.0),
        "correlation": (1.0, 0.4, 0.0),
        "inflation": 1.0,
        "bias_covariance": (0.0,) * 4,
        "level": 0.9,
        "chips": 12,
    }
    return ErrorModel(**(values | changes))


def alike(**changes):
    """Errors of all pixels the same, however far apart."""
    return model(distance_m=(0.0, 1e7), correlation=(1.0, 1.0), **changes)


def independent(**changes):
    return model(distance_m=(0.0, 0.001), correlation=(1.0, 0.0), **changes)


def everywhere(agb):
    return np.ones(agb.shape, bool)


def total_of(errors, agb):
    return total_of_map(errors, agb, everywhere(agb), 10.0)


def test_a_total_worked_by_hand():
    agb = np.array([[10.0, 60.0]])
    total = total_of(model(), agb)
    assert total.area_ha == pytest.approx(0.02)
    assert total.mean == pytest.approx((8 + 70) / 2)
    # The variance of the sum within one cell: 5² + 20² + ρ-mean · 2 · 5 · 20.
    assert np.hypot(5, 20) / 2 < total.standard_error < (5 + 20) / 2
    figures = total.to_dict()
    assert figures["biomass_mg"] == pytest.approx(39 * 0.02)
    assert figures["carbon_mg"] == pytest.approx(0.47 * 39 * 0.02)
    half = 1.6448536 * total.standard_error
    assert figures["biomass_mg_upper"] == pytest.approx((39 + half) * 0.02)


@pytest.mark.parametrize("size", [(3, 5), (40, 70)])
def test_errors_that_are_all_alike_do_not_cancel(size):
    agb = np.full(size, 100.0)
    assert total_of(alike(), agb).standard_error == pytest.approx(20.0)


def test_independent_errors_cancel_as_they_should():
    agb = np.full((40, 70), 100.0)
    found = total_of(independent(), agb).standard_error
    assert found == pytest.approx(20 / np.sqrt(40 * 70))


def test_what_is_common_to_all_maps_never_cancels():
    agb = np.full((64, 64), 100.0)
    found = total_of(independent(bias_covariance=(9.0,) * 4), agb).standard_error
    assert found == pytest.approx(np.hypot(3, 20 / 64))


def test_what_the_curve_does_not_hold_inflates_the_errors_but_not_the_doubt_about_the_bias():
    agb = np.full((64, 64), 100.0)
    found = total_of(independent(bias_covariance=(9.0,) * 4, inflation=2.0), agb)
    assert found.standard_error == pytest.approx(np.hypot(3, 2 * 20 / 64))


def test_there_is_no_negative_forest():
    agb = np.full((4, 4), 4.0)
    figures = total_of(alike(deviation=(50.0, 50.0)), agb).to_dict()
    assert (figures["biomass_mg_lower"], figures["carbon_mg_lower"]) == (0.0, 0.0)
    assert figures["biomass_mg_upper"] == pytest.approx((2 + 1.6448536 * 50) * 0.16)


def test_what_all_pixels_of_a_chip_share_a_region_shares_too():
    """Half of the variance is common to pixels however far apart: it never cancels."""
    agb = np.full((300, 300), 100.0)
    half = model(distance_m=(0.0, 0.001, 50.0), correlation=(1.0, 0.5, 0.5))
    found = total_of(half, agb).standard_error
    assert found == pytest.approx(20 * np.sqrt(0.5 + 0.5 / 300**2))


def test_cells_are_close_to_the_double_sum_over_pixels():
    curve = {"distance_m": (0.0, 10.0, 300.0, 800.0), "correlation": (1.0, 0.4, 0.1, 0.0)}
    agb = np.random.default_rng(0).uniform(0, 100, (48, 40))
    found = total_of(model(**curve), agb).standard_error
    sigma = model().deviations(agb).ravel()
    rows, columns = (axis.ravel() for axis in np.mgrid[:48, :40])
    distance = 10 * np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    exact = sigma @ model(**curve).correlation_at(distance) @ sigma
    assert found == pytest.approx(np.sqrt(exact) / agb.size, rel=0.02)


def test_joined_cells_are_close_to_fine_ones():
    """Cells 8 times as wide as the finest, and stands of forest narrower than they are."""
    curve = {"distance_m": (0.0, 10.0, 300.0, 800.0), "correlation": (1.0, 0.4, 0.1, 0.0)}
    coarse = RegionTotals(model(**curve), 10.0)
    coarse._cells = CellSums(2, most=100)
    fine = RegionTotals(model(**curve), 10.0)
    forest = np.random.default_rng(0).uniform(0, 100, (32, 32)).repeat(32, 0).repeat(32, 1)
    for top, left in np.ndindex(8, 8):
        block = forest[128 * top : 128 * (top + 1), 128 * left : 128 * (left + 1)]
        for totals in (coarse, fine):
            totals.update(block, everywhere(block), 128 * top, 128 * left)
    assert (fine._cells.side, coarse._cells.side) == (16, 128)
    assert coarse.total().standard_error == pytest.approx(fine.total().standard_error, rel=0.03)


def test_blocks_in_any_order_give_what_the_whole_map_gives():
    agb = np.random.default_rng(1).uniform(0, 200, (70, 50))
    valid = np.random.default_rng(2).random(agb.shape) > 0.2
    whole, blocks = RegionTotals(model(), 10.0), RegionTotals(model(), 10.0)
    whole.update(agb, valid, 0, 0)
    for top, left in ((33, 0), (0, 17), (0, 0), (33, 17)):
        rows = slice(top, 33 if top == 0 else None)
        columns = slice(left, 17 if left == 0 else None)
        blocks.update(agb[rows, columns], valid[rows, columns], top, left)
    assert blocks.result() == pytest.approx(whole.result())


def test_pixels_that_are_not_valid_do_not_count():
    agb = np.array([[10.0, np.nan]])
    total = total_of_map(model(), agb, np.array([[True, False]]), 10.0)
    assert total.area_ha == pytest.approx(0.01)
    assert total.mean == pytest.approx(8.0)


def test_no_pixels_no_biomass():
    region = RegionTotals(model(), 10.0)
    assert region.result()["biomass_mg"] == 0.0
    region.update(np.ones((2, 2)), np.zeros((2, 2), bool), 0, 0)
    assert region.result()["area_ha"] == 0.0


def test_the_doubt_about_the_bias_is_that_of_the_bins_that_a_map_holds():
    found = model(
        distance_m=(0.0, 0.001), correlation=(1.0, 0.0), bias_covariance=(0.04, 0.0, 0.0, 9.0)
    )
    low, high = np.full((64, 64), 10.0), np.full((64, 64), 100.0)
    of_low = total_of(found, low).standard_error
    of_high = total_of(found, high).standard_error
    assert of_low == pytest.approx(np.hypot(0.2, 5 / 64))
    assert of_high == pytest.approx(np.hypot(3.0, 20 / 64))
    both = np.concatenate([low, high])
    of_both = total_of(found, both).standard_error
    assert of_both == pytest.approx(np.sqrt((0.04 + 9) / 4 + (25 + 400) / 2 / both.size))


def test_what_a_region_shares_beyond_chips_is_a_share_of_its_biomass():
    agb = np.full((64, 64), 100.0)
    found = total_of(independent(shared_sd=0.05), agb)
    assert found.standard_error == pytest.approx(np.hypot(0.05 * 110, 20 / 64))


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


# Standard error 5 Mg/ha below a prediction of 50, 21 above.
ALL_ALIKE = ErrorModel(
    (50.0,), (0.0, 0.0), (5.0, 21.0), (0.0, 1e7), (1.0, 1.0), 1.0, (0.0,) * 4, 0.9, 12
)


def gedi_cells(agb, model=ALL_ALIKE, pixel=10.0, block=(70, 130)):
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
    assert gedi_cells(agb) == {"gedi_cells": 5, "gedi_cells_within": 2 / 5}


def test_errors_that_cancel_are_within():
    apart = ErrorModel(
        (), (0.0,), (60.0,), (0.0, 0.001), (1.0, 0.0), 1.0, (0.0,), 0.9, 12
    )  # 60 / 100 = 0.6 Mg/ha
    assert gedi_cells(np.full((100, 100), 60.0), apart)["gedi_cells_within"] == 1
    assert total_of(apart, np.full((100, 100), 60.0)).standard_error == pytest.approx(0.6)


def test_a_cell_has_the_pixels_of_a_kilometre():
    assert gedi_cells(np.full((50, 99), 10.0), pixel=20.0)["gedi_cells"] == 1
    assert gedi_cells(np.full((200, 200), 10.0), pixel=9.995)["gedi_cells"] == 4


def test_no_whole_cell_says_nothing():
    assert gedi_cells(np.full((99, 500), 10.0)) == {}


def test_a_cell_is_forgotten_when_it_was_seen():
    cells = GediCells(ALL_ALIKE, 10.0)
    holes = np.where(np.eye(100, dtype=bool), np.nan, 60.0)
    for column in range(50):
        cells.update(holes, ~np.isnan(holes), 0, 100 * column, np.full((100, 100), 0.01))
    assert not cells._open
    assert cells.result() == {}
