"""A map's values under footprints and within polygons, by hand."""

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine

from biomassters.errors import BadInputError
from biomassters.plots.map_values import (
    agb_and_classes,
    footprints,
    jittered,
    moved_polygons,
    opened_map,
    zonal_sums,
)

from .conftest import NORTH, WEST

HERE = CRS.from_epsg(3067)


@pytest.fixture
def shapely(optional):
    optional("exactextract")
    optional("geopandas")
    return optional("shapely")


def sums(path, polygons, edges=()):
    with opened_map(path) as file:
        return zonal_sums(file, agb_and_classes(1, edges), polygons, "", progress=False)


def test_pixels_count_by_the_area_they_share(write_map, shapely):
    """A box of half the first pixel and a quarter of the second: (0.5 x 10 + 0.25 x 40) / 0.75."""
    path = write_map(np.array([[10.0, 40.0], [np.nan, 80.0]]))
    box = shapely.box(WEST + 5, NORTH - 10, WEST + 12.5, NORTH)
    below = shapely.box(WEST, NORTH - 20, WEST + 20, NORTH - 10)
    beyond = shapely.box(WEST + 15, NORTH - 10, WEST + 25, NORTH)
    found = sums(path, np.array([box, below, beyond]), edges=(20.0,))
    assert found.means[0, 0] == pytest.approx((0.5 * 10 + 0.25 * 40) / 0.75)
    assert found.means[0, 1:] == pytest.approx([0.5 / 0.75, 0.25 / 0.75])
    # The scale of the projection here is 0.9996: 1.0008 ha on the ground for one on the map.
    assert found.hectares[0] == pytest.approx(0.0075, rel=2e-3)
    assert found.means[1, 0] == 80.0
    assert found.cover == pytest.approx([1.0, 0.5, 0.5])


def test_windows_do_not_show(write_map, shapely):
    """A polygon across four windows of 1,024 pixels is what numpy says."""
    values = np.arange(1100 * 1200, dtype=np.float32).reshape(1100, 1200) % 251
    path = write_map(values)
    box = shapely.box(WEST + 9000, NORTH - 10_900, WEST + 11_000, NORTH - 9000)
    found = sums(path, np.array([box]))
    expected = values[900:1090, 900:1100].mean(dtype=np.float64)
    # Ground areas differ by 1e-6 within the box.
    assert found.means[0, 0] == pytest.approx(expected, rel=1e-5)


def test_footprints_have_the_plots_area(shapely):
    x, y = np.array([WEST, WEST + 100]), np.array([NORTH, NORTH])
    there = footprints(x, y, np.array([254.0, 1000.0]), HERE, HERE)
    # 0.9996² of the ground at the central meridian's scale; a little more away from it.
    assert shapely.area(there) == pytest.approx([254.0, 1000.0], rel=2e-3)
    assert shapely.get_x(shapely.centroid(there)) == pytest.approx(x, abs=0.01)
    degrees = footprints(
        np.array([25.0]), np.array([62.0]), np.array([254.0]), CRS.from_epsg(4326), HERE
    )
    assert shapely.area(degrees)[0] == pytest.approx(254.0, rel=2e-3)


def test_jitter_moves_as_far_as_it_says():
    generator = np.random.default_rng(1)
    x, y = np.full(4000, WEST), np.full(4000, NORTH)
    moved_x, moved_y = jittered(x, y, HERE, 5.0, generator)
    assert (moved_x - x).std() == pytest.approx(5, rel=0.05)
    assert (moved_y - y).std() == pytest.approx(5, rel=0.05)
    assert (moved_x - x).mean() == pytest.approx(0, abs=0.3)


def test_polygons_of_another_system(shapely):
    square = np.array([shapely.box(25.0, 62.0, 25.01, 62.01)])
    moved = moved_polygons(square, CRS.from_epsg(4326), HERE, "areas.gpkg")
    # A hundredth of a degree is 1,114 m north and 524 m east there.
    assert shapely.area(moved)[0] == pytest.approx(1114 * 524, rel=5e-3)
    with pytest.raises(BadInputError, match="other geometries than polygons"):
        moved_polygons(np.array([shapely.Point(1, 1)]), HERE, HERE, "areas.gpkg")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ({"crs": None, "transform": None}, "doesn't say where it lies"),
        ({"transform": Affine(10, 0, WEST, 0, 10, NORTH)}, "is rotated or upside down"),
        ({"transform": Affine(10, 1, WEST, 1, -10, NORTH)}, "is rotated or upside down"),
    ],
)
def test_maps_that_lie_nowhere(write_map, profile, sentence):
    path = write_map(np.ones((2, 2)), **profile)
    with pytest.raises(BadInputError, match=sentence), opened_map(path):
        pass


def test_a_text_is_no_map(tmp_path):
    (tmp_path / "text.tif").write_text("no map")
    with (
        pytest.raises(BadInputError, match="can't be read as a GeoTIFF"),
        opened_map(tmp_path / "text.tif"),
    ):
        pass


def test_polygons_may_overlap_and_lie_outside(write_map, shapely, monkeypatch):
    """However few shares of pixels are in memory at once."""
    values = np.arange(64.0).reshape(8, 8)
    path = write_map(values)
    outside = shapely.box(WEST - 50, NORTH - 10, WEST - 20, NORTH)
    touching = shapely.box(WEST - 50, NORTH - 10, WEST, NORTH)
    whole = shapely.box(WEST, NORTH - 80, WEST + 80, NORTH)
    row = shapely.box(WEST, NORTH - 20, WEST + 80, NORTH - 10)
    polygons = np.array([touching, whole, outside, row, whole, touching])
    expected = [np.nan, values.mean(), np.nan, values[1].mean(), values.mean(), np.nan]
    for most in (2**21, 10):
        monkeypatch.setattr("biomassters.plots.map_values._MOST_CELLS", most)
        found = sums(path, polygons)
        np.testing.assert_allclose(found.means[:, 0], expected, rtol=1e-5)
        assert found.cover.tolist() == pytest.approx([0, 1, 0, 1, 1, 0])
