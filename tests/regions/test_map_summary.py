"""Totals of a map: what its pixels hold, on the ground."""

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from biomassters.imagery.pixel_grid import Grid, clipped
from biomassters.regions.map_summary import MapSummary
from biomassters.regions.map_writer import AGB, BANDS, MONTHS, MapPiece
from biomassters.uncertainty.error_model import ErrorModel

from .conftest import images_at

NO_BIAS = (0.0, 0.0, 0.0, 0.0)
NO_ERRORS = ErrorModel(
    (50.0,), (0.0, 0.0), (9.0, 9.0), (0.0, 20.0), (1.0, 0.0), 1.0, NO_BIAS, 0.9, 10
)


def grid_of(path):
    with rasterio.open(path) as file:
        return Grid(file.crs, file.transform, file.height, file.width)


def summary_of(grid, agb=100.0, errors=None, carbon_fraction=0.47):
    """Of a map that says the same everywhere, in pieces of 48 pixels."""
    summary = MapSummary(grid, carbon_fraction, errors)
    for top in range(0, grid.height, 48):
        for left in range(0, grid.width, 48):
            window = clipped(Window(left, top, 48, 48), *grid.shape)
            values = np.full((len(BANDS), window.height, window.width), np.nan, np.float32)
            values[AGB], values[MONTHS] = agb, 12
            summary.update(MapPiece(window, values))
    return summary.result()


def test_a_map_of_web_mercator_counts_the_ground(tmp_path):
    """64 × 64 pixels at 62° N: 9.06 ha of ground, 40.96 ha by the map's own metres."""
    found = summary_of(grid_of(images_at(tmp_path, "EPSG:3857", 25.0, 62.0)))
    assert found["area_ha"] == pytest.approx(9.06, abs=0.01)
    assert found["biomass_mg"] == pytest.approx(906, abs=1)


def test_totals_add_up_the_ground_and_so_does_everything_beside_them(tmp_path):
    grid = grid_of(images_at(tmp_path, "EPSG:3857", 25.0, 62.0, size=200))
    expected = grid.ground.areas_ha().sum()
    found = summary_of(grid, errors=NO_ERRORS)
    assert found["area_ha"] == pytest.approx(expected, rel=1e-9)
    assert found["biomass_mg"] == pytest.approx(100 * expected, rel=1e-9)
    assert found["mean_agb_mg_per_ha"] == pytest.approx(100, rel=1e-9)
    assert sum(found["histogram"]["area_ha"]) == pytest.approx(expected, rel=1e-9)
    assert sum(found["area_ha_by_months_used"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("errors", [None, NO_ERRORS])
def test_the_carbon_fraction_is_the_one_that_was_asked_for(tmp_path, errors):
    grid = grid_of(images_at(tmp_path, "EPSG:3067", 25.0, 62.0))
    found = summary_of(grid, errors=errors, carbon_fraction=0.5)
    assert found["carbon_fraction"] == 0.5
    assert found["carbon_mg"] == pytest.approx(0.5 * found["biomass_mg"], rel=1e-9)
