import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.windows import Window

from biomassters.chips.bands import S1, S2
from biomassters.imagery.pixel_grid import Grid
from biomassters.regions.alignment import read_aligned
from biomassters.regions.inputs.layers import RasterLayer
from biomassters.regions.inputs.source import read_month

from .conftest import NORTH, WEST, month_values, write_tif

MAP = Grid(CRS.from_epsg(3067), from_origin(WEST, NORTH, 10, 10), 40, 50)
WHOLE = Window(0, 0, 50, 40)


def layer(path, values, sensor="s1", names=S1.bands, **place):
    return RasterLayer.open(str(write_tif(path, values, names=names, **place)), sensor, ())


def test_the_maps_own_pixels_are_copied(tmp_path):
    s1, _ = month_values(40, 50)
    found = read_aligned(layer(tmp_path / "a.tif", s1), MAP, Window(5, 3, 10, 20))
    np.testing.assert_array_equal(found, s1[:, 3:23, 5:15])


def test_shifted_pixels_are_copied_and_there_is_nothing_beyond(tmp_path):
    s1, _ = month_values(10, 10)
    shifted = layer(tmp_path / "a.tif", s1, west=WEST + 100, north=NORTH - 50)
    found = read_aligned(shifted, MAP, WHOLE)
    np.testing.assert_array_equal(found[:, 5:15, 10:20], s1)
    assert np.isfinite(found).sum() == s1.size


def test_backscatter_is_averaged_as_power(tmp_path):
    """Two pixels of 0 and two of −10 dB: mean power 0.55, −2.6 dB, where dB would give −5."""
    db = np.zeros((4, 4, 4), np.float32)
    db[:, :, 1::2] = -10.0
    fine = layer(tmp_path / "a.tif", db, pixel=5.0)
    found = read_aligned(fine, Grid(MAP.crs, MAP.transform, 2, 2), Window(0, 0, 2, 2))
    np.testing.assert_allclose(found, 10 * np.log10(0.55), atol=1e-4)


def test_cloud_probability_is_never_averaged(tmp_path):
    counts = np.full((11, 8, 8), 1000, np.uint16)
    counts[10] = np.where(np.arange(8) % 2, 255, 0)
    fine = layer(tmp_path / "a.tif", counts, "s2", S2.bands, pixel=4.0)
    found = read_aligned(fine, Grid(MAP.crs, MAP.transform, 3, 3), Window(0, 0, 3, 3))
    assert set(np.unique(found[10])) <= {0, 255}
    np.testing.assert_allclose(found[:10], 1000)


def test_nodata_does_not_leak_into_averages(tmp_path):
    db = np.full((4, 4, 4), -10.0, np.float32)
    db[:, 0, 0] = -9999
    fine = layer(tmp_path / "a.tif", db, pixel=5.0, nodata=-9999)
    found = read_aligned(fine, Grid(MAP.crs, MAP.transform, 2, 2), Window(0, 0, 2, 2))
    np.testing.assert_allclose(found, -10, atol=1e-4)


@pytest.mark.parametrize("value", [-9999.0, -9998.99, -5000.0])
@pytest.mark.parametrize("tag", [{}, {"nodata": -9999}])
def test_no_data_that_no_tag_names_is_no_backscatter(tmp_path, value, tag):
    """Neither as power 0 in an average, nor as −327.67 dB where pixels are copied."""
    db = np.full((4, 4, 4), -10.0, np.float32)
    db[:, 0, 0], db[:, 2:, 2:] = value, value
    fine = layer(tmp_path / "a.tif", db, pixel=5.0, **tag)
    grid = Grid(MAP.crs, MAP.transform, 2, 2)
    found = read_aligned(fine, grid, Window(0, 0, 2, 2))
    np.testing.assert_allclose(found, [[[-10, -10], [-10, np.nan]]] * 4, atol=1e-4)
    same = layer(tmp_path / "b.tif", db, **tag)
    packed = read_month(S1, [same], same.grid, Window(0, 0, 4, 4))
    assert (packed[:, 0, 0] == -32768).all()
    assert sorted(np.unique(packed)) == [-32768, -1000]


@pytest.mark.parametrize("pixel", [4.7, 9.4, 23.0])
def test_scenes_side_by_side_leave_neither_gap_nor_overlap(tmp_path, pixel):
    """Averaged, interpolated, magnified: each pixel of the map belongs to one of four scenes."""
    side = 12
    scenes = []
    for row, column in np.ndindex(2, 2):
        db = np.full((4, side, side), -10.0, np.float32)
        west, north = WEST + 33 + column * side * pixel, NORTH - 27 - row * side * pixel
        path = tmp_path / f"{row}{column}.tif"
        scenes.append(layer(path, db, pixel=pixel, west=west, north=north))
    seen = sum(np.isfinite(read_aligned(scene, MAP, WHOLE)[0]).astype(int) for scene in scenes)
    half = side * pixel
    y, x = np.mgrid[:40, :50] * 10 + 5.0  # centres
    inside = (abs(x - 33 - half) < half) & (abs(y - 27 - half) < half)
    np.testing.assert_array_equal(seen, inside)


def test_a_rim_without_data_keeps_its_width(tmp_path):
    """A scene's border within its file counts as the file's own: from 47 to 141 m, 9 pixels."""
    db = np.full((4, 40, 40), np.nan, np.float32)
    db[:, 10:30, 10:30] = -10.0
    fine = layer(tmp_path / "a.tif", db, pixel=4.7)
    found = read_aligned(fine, MAP, WHOLE)
    centres = np.arange(50) * 10 + 5.0
    inside = (centres > 47) & (centres < 141)
    np.testing.assert_array_equal(np.isfinite(found[0]), inside[:40, None] & inside)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32635"])
def test_another_coordinate_system(tmp_path, crs):
    """A field that rises to the east keeps its values on the ground."""
    from rasterio.warp import calculate_default_transform, reproject

    from biomassters.imagery.pixel_grid import bounds_between

    east = np.tile(np.linspace(-20, -5, 200, dtype=np.float32), (4, 160, 1))
    big = Grid(MAP.crs, from_origin(WEST - 700, NORTH + 700, 10, 10), 160, 200)
    transform, width, height = calculate_default_transform(
        big.crs, CRS.from_string(crs), big.width, big.height, *big.bounds
    )
    there = np.full((4, height, width), np.nan, np.float32)
    reproject(east, there, src_transform=big.transform, src_crs=big.crs, dst_transform=transform,
              dst_crs=crs, dst_nodata=np.nan)  # fmt: skip
    import rasterio

    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", count=4, height=height, width=width, crs=crs,
                       dtype="float32", transform=transform, nodata=np.nan) as file:  # fmt: skip
        file.write(there)
        file.descriptions = S1.bands
    found = read_aligned(RasterLayer.open(str(path), "s1", ()), MAP, WHOLE)
    assert bounds_between(MAP.crs, CRS.from_string(crs), MAP.bounds)
    np.testing.assert_allclose(found, east[:, 70:110, 70:120], atol=0.15)
