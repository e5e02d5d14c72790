"""What a newcomer brings, and what is said about it."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rasterio.windows import Window
from tests.regions.conftest import NORTH, WEST, month_values, write_month, write_tif

from biomassters.chips.bands import S1, S2
from biomassters.errors import BadInputError
from biomassters.regions.inputs.source import open_region
from biomassters.regions.options import AreaOptions, ImageOptions


def opened(folder, images=None, **area):
    return open_region(str(folder), images or ImageOptions(), AreaOptions(**area))


def everything(source):
    with ThreadPoolExecutor(2) as pool:
        return source.read(Window(0, 0, source.grid.width, source.grid.height), pool)


def test_any_subset_of_months(tmp_path):
    write_month(tmp_path, 2, 40, 50)
    _, s2 = month_values(40, 50, 7)
    write_tif(tmp_path / "S2_07.tif", s2, names=S2.bands)
    images = everything(opened(tmp_path))
    assert images.months == (2, 7)
    np.testing.assert_array_equal(images.images["s2"][1], s2)
    assert (images.images["s1"][1] == -32768).all()
    assert images.seen().all()


def test_a_handle_goes_to_another_process(tmp_path):
    write_month(tmp_path, 2, 40, 50)
    source = opened(tmp_path)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(everything(copy).images["s1"], everything(source).images["s1"])


def test_bands_by_name_whatever_their_order(tmp_path):
    _, s2 = month_values(40, 50)
    order = np.random.default_rng(0).permutation(11)
    write_tif(tmp_path / "S2_00.tif", s2[order], names=[S2.bands[band] for band in order])
    np.testing.assert_array_equal(everything(opened(tmp_path)).images["s2"][0], s2)


def test_scale_offset_and_nodata_of_a_file(tmp_path):
    import rasterio

    s1 = np.full((4, 40, 50), -1500, np.int16)
    s1[1::2] = -2100
    s1[:, 0, 0] = -32768
    path = write_tif(tmp_path / "S1_00.tif", s1, names=S1.bands, nodata=-32768)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.01,) * 4
    found = everything(opened(tmp_path)).images["s1"][0]
    np.testing.assert_array_equal(found, s1)


def test_scene_classes_stand_in_for_cloud_probability(tmp_path):
    _, s2 = month_values(40, 50)
    scene = np.full((40, 50), 4, np.uint16)
    scene[0], scene[1], scene[2] = 0, 9, 8
    values = np.concatenate([s2[:10], scene[None]])
    write_tif(tmp_path / "S2_00.tif", values, names=(*S2.bands[:-1], "SCL"))
    found = everything(opened(tmp_path)).images["s2"][0]
    assert (found[:10, 0] == 0).all()
    assert [found[10, row, 0] for row in range(4)] == [255, 90, 50, 0]


def test_the_area_in_another_coordinate_system(tmp_path):
    from rasterio.crs import CRS

    from biomassters.imagery.pixel_grid import bounds_between

    write_month(tmp_path, 2, 40, 50)
    here = (WEST + 100, NORTH - 300, WEST + 300, NORTH - 100)
    degrees = bounds_between(CRS.from_epsg(3067), CRS.from_epsg(4326), here)
    grid = opened(tmp_path, bounds=degrees).grid
    west, _, east, _ = grid.bounds
    assert west <= here[0]
    assert east >= here[2]
    assert (east - west) < 260
    assert grid.transform.c % 10 == 0
    assert opened(tmp_path, bounds=here, bounds_crs="EPSG:3067").grid.shape == (20, 20)


def test_polygons_leave_out_what_lies_between_them(tmp_path):
    write_month(tmp_path, 2, 40, 50)
    x, y = WEST, NORTH
    triangle = [[x, y], [x + 400, y - 400], [x, y - 400], [x, y]]
    area = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [triangle]},
        "crs": {"properties": {"name": "EPSG:3067"}},
    }
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(area))
    inside = everything(opened(tmp_path, file=str(path))).inside
    assert inside.shape == (40, 40)
    assert inside[30, 5]
    assert not inside[5, 30]
    assert abs(inside.mean() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("side", "sentence"),
    [(3.0, "smaller than a pixel of 10 m"), (float("nan"), "is no finite number"),
     ("400", "is no finite number")],
)  # fmt: skip
def test_polygons_that_would_give_an_empty_map_are_refused(tmp_path, side, sentence):
    write_month(tmp_path, 2, 40, 50)
    x, y = WEST + 101, NORTH - 101
    far = x + side if isinstance(side, float) else side
    ring = [[x, y], [far, y], [x, y - 3], [x, y]]
    area = {"type": "Polygon", "coordinates": [ring], "crs": {"properties": {"name": "EPSG:3067"}}}
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(area))
    with pytest.raises(BadInputError, match=sentence):
        opened(tmp_path, file=str(path))


def test_a_map_of_images_in_degrees_lies_in_their_utm_zone(tmp_path):
    s1, _ = month_values(60, 60)
    write_tif(tmp_path / "S1_00.tif", s1, names=S1.bands, crs="EPSG:4326", pixel=1e-4, west=25.0,
              north=62.0)  # fmt: skip
    grid = opened(tmp_path).grid
    assert grid.crs.to_epsg() == 32635
    assert grid.pixel_size == pytest.approx(10)
    assert np.isfinite(everything(opened(tmp_path)).images["s1"]).any()


def bad_month(folder, name, values, **changes):
    names = S1.bands if name.startswith("S1") else S2.bands
    write_tif(folder / name, values, **{"names": names, **changes})


def test_no_month_at_all(tmp_path):
    with pytest.raises(BadInputError, match=r"holds no month: expected files such as S1_00\.tif"):
        opened(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(BadInputError, match=r"There are no images at .*nowhere"):
        opened(tmp_path / "nowhere")


S1_VALUES, S2_VALUES = month_values(40, 50)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("S1_00.tif", 10 ** (S1_VALUES / 10), "looks like linear power, expected dB"),
        ("S1_00.tif", S1_VALUES[[1, 0, 3, 2]], "VV and VH look swapped"),
        ("S1_00.tif", S1_VALUES * 100, "expected backscatter in dB"),
        ("S2_00.tif", (S2_VALUES / 1e4).astype(np.float32),
         "looks like reflectance 0-1, expected × 10,000"),
        ("S2_00.tif", S2_VALUES[[10, *range(10)]], "in CLP, expected 0 to 100 or 255"),
        ("S2_00.tif", S2_VALUES[[0, 1, 2, 3, 4, 6, 2, 7, 8, 9, 10]] // [[[1]]] *
         np.array([1, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1], np.uint16)[:, None, None],
         "bands look swapped"),
        ("S1_12.tif", S1_VALUES, r"months are 00 \(September\) to 11 \(August\)"),
        ("S2_00.tif", S2_VALUES[:4], "has 4 bands without a known description"),
    ],
)  # fmt: skip
def test_what_images_look_like(tmp_path, name, values, sentence):
    names = S1.bands if name.startswith("S1") else S2.bands
    names = names if len(values) == len(names) else None
    write_tif(tmp_path / name, np.ascontiguousarray(values), names=names)
    with pytest.raises(BadInputError, match=sentence):
        opened(tmp_path)


def test_no_coordinate_system(tmp_path):
    write_tif(tmp_path / "S1_00.tif", S1_VALUES, names=S1.bands, crs=None)
    with pytest.raises(BadInputError, match="has no coordinate system"):
        opened(tmp_path)


def test_not_a_raster(tmp_path):
    (tmp_path / "S1_00.tif").write_text("hello")
    with pytest.raises(BadInputError, match="can't be opened as a raster"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("area", "sentence"),
    [
        ({"bounds": (10, 50, 11, 51)}, "do not overlap the area"),
        ({"bounds": (170, 50, -170, 51)}, "crosses the antimeridian"),
        ({"bounds": (170, 50, 190, 51)}, "crosses the antimeridian"),
        ({"bounds": (4e5, 6.8e6, 4.1e5, 6.9e6)}, "are no degrees: state its coordinate system"),
        ({"bounds": (10, 51, 11, 50)}, "expected west, south, east, north"),
        ({"bounds": (0, 0, 1, 1), "bounds_crs": "nonsense"}, "is no coordinate system"),
        ({"file": "nowhere.geojson"}, "nowhere.geojson can't be read"),
    ],
)
def test_areas_that_cannot_be(tmp_path, area, sentence):
    write_month(tmp_path, 0, 40, 50)
    with pytest.raises(BadInputError, match=sentence):
        opened(tmp_path, **area)


def test_an_area_without_polygons(tmp_path):
    write_month(tmp_path, 0, 40, 50)
    path = tmp_path / "a.geojson"
    path.write_text('{"type": "Point", "coordinates": [1, 2]}')
    with pytest.raises(BadInputError, match="holds no polygon"):
        opened(tmp_path, file=str(path))


def test_a_month_elsewhere_is_named_and_left_out(tmp_path, caplog):
    write_month(tmp_path, 0, 40, 50)
    s1, _ = month_values(40, 50)
    write_tif(tmp_path / "S1_05.tif", s1, names=S1.bands, west=WEST + 50_000, pixel=20.0)
    source = opened(tmp_path, bounds=(WEST, NORTH - 400, WEST + 500, NORTH), bounds_crs="EPSG:3067")
    assert [month.month for month in source.months] == [0]
    assert "S1_05.tif does not overlap the area" in caplog.text
