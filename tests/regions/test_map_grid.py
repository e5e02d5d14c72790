"""Whatever grid the images have, the map's pixels have 10 m on the ground."""

import numpy as np
import pytest
import rasterio

from biomassters.errors import BadInputError
from biomassters.regions.assembly import AGB, BANDS, MONTHS, MapPiece
from biomassters.regions.grid import Grid, PixelWindow
from biomassters.regions.inputs.source import open_region
from biomassters.regions.options import AreaOptions, ImageOptions
from biomassters.regions.summary import MapSummary
from biomassters.uncertainty.error_model import ErrorModel

from .conftest import images_at

NO_BIAS = (0.0, 0.0, 0.0, 0.0)
NO_ERRORS = ErrorModel(
    (50.0,), (0.0, 0.0), (9.0, 9.0), (0.0, 20.0), (1.0, 0.0), 1.0, NO_BIAS, 0.9, 10
)


def grid_of(path):
    with rasterio.open(path) as file:
        return Grid(file.crs, file.transform, file.height, file.width)


def opened(folder, **images):
    return open_region(str(folder), ImageOptions(**images), AreaOptions())


def summary_of(grid, agb=100.0, errors=None, carbon_fraction=0.47):
    """Of a map that says the same everywhere, in pieces of 48 pixels."""
    summary = MapSummary(grid, carbon_fraction, errors)
    for top in range(0, grid.height, 48):
        for left in range(0, grid.width, 48):
            window = PixelWindow(top, left, 48, 48).clipped(*grid.shape)
            values = np.full((len(BANDS), *window.shape), np.nan, np.float32)
            values[AGB], values[MONTHS] = agb, 12
            summary.update(MapPiece(window, values))
    return summary.result()


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude", "zone"),
    [
        ("EPSG:3857", 25.0, 62.0, 32635),
        ("EPSG:2263", -73.9, 40.7, 32618),
        ("EPSG:3035", -25.0, 38.0, 32626),  # the Azores: too far from Lambert's middle
    ],
)
def test_a_grid_that_is_not_so_on_the_ground_gives_way_to_the_utm_zones(
    tmp_path, caplog, crs, longitude, latitude, zone
):
    images_at(tmp_path, crs, longitude, latitude)
    grid = opened(tmp_path).grid
    assert grid.crs.to_epsg() == zone
    np.testing.assert_allclose(grid.ground.sides_m(), 10, rtol=0.01)
    assert f"10 units in {crs} measure" in caplog.text
    assert f"the map lies in EPSG:{zone} instead" in caplog.text


@pytest.mark.parametrize("crs", ["EPSG:3067", "EPSG:3035", "EPSG:32635"])
def test_a_grid_that_is_so_on_the_ground_is_kept(tmp_path, caplog, crs):
    images_at(tmp_path, crs, 25.0, 62.0)
    grid = opened(tmp_path).grid
    assert (grid.crs.to_string(), grid.shape) == (crs, (64, 64))
    assert caplog.text == ""


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:2263"])
def test_a_coordinate_system_that_was_chosen_is_refused(tmp_path, crs):
    images_at(tmp_path, "EPSG:32618", -73.9, 40.7)
    sentence = (
        rf"mapping.images.crs: pixels of 10 units in {crs} measure (7\.56|3\.05) m on the gro"
    )
    with pytest.raises(BadInputError, match=rf"{sentence}.* such as EPSG:32618, or null"):
        opened(tmp_path, crs=crs)


def test_an_area_too_wide_for_one_zone_is_refused(tmp_path):
    """At the equator 24 degrees of longitude; a zone's pixels are 2.4 % off at its sides."""
    images_at(tmp_path, "EPSG:4326", 15.0, 0.0, pixel=24 / 64)
    with pytest.raises(BadInputError, match=r"reaches too far for one map of 10 m pixels; map it"):
        opened(tmp_path)


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
    images_at(tmp_path, "EPSG:3067", 25.0, 62.0)
    found = summary_of(opened(tmp_path).grid, errors=errors, carbon_fraction=0.5)
    assert found["carbon_fraction"] == 0.5
    assert found["carbon_mg"] == pytest.approx(0.5 * found["biomass_mg"], rel=1e-9)
