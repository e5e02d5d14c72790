"""Labels averaged by area onto 10 m pixels: values worked by hand, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.windows import Window
from tests.regions.conftest import NORTH, WEST, write_tif

from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import Grid
from biomassters.regions.labels import Label
from biomassters.regions.options import LabelOptions

CRS_3067 = CRS.from_epsg(3067)


def grid(height, width):
    return Grid(CRS_3067, from_origin(WEST, NORTH, 10.0, 10.0), height, width)


def labels(tmp_path, values, pixel=10.0, size=(2, 2), crs="EPSG:3067", profile=None, **options):
    values = np.asarray(values, np.float32)
    path = write_tif(tmp_path / "label.tif", values[None], pixel=pixel, crs=crs, **(profile or {}))
    return Label.open(path, LabelOptions(**options)).read(grid(*size), Window(0, 0, *size[::-1]))


def polygons(tmp_path, features, crs="urn:ogc:def:crs:EPSG::3067"):
    path = tmp_path / "stands.geojson"
    content = {"type": "FeatureCollection", "features": features}
    content |= {} if crs is None else {"crs": {"type": "name", "properties": {"name": crs}}}
    path.write_text(json.dumps(content))
    return path


def stand(west, south, east, north, **properties):
    """A rectangle, in metres from the grid's upper left corner, y upwards."""
    x, y = [WEST + west, WEST + east], [NORTH + south, NORTH + north]
    ring = [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def test_on_the_same_pixels_labels_are_copied(tmp_path):
    values = np.array([[120.3, np.nan], [0.0, 77.7]], np.float32)
    np.testing.assert_array_equal(labels(tmp_path, values), values)


def test_coarser_pixels_share_by_area(tmp_path):
    """The second 10 m pixel lies to 6 parts in the first 16 m pixel, to 4 in the second."""
    found = labels(tmp_path, [[1, 2], [8, 16]], pixel=16.0, size=(3, 3))
    assert found[0, :2] == pytest.approx([1.0, 0.6 * 1 + 0.4 * 2])
    assert found[1, 1] == pytest.approx(0.36 * 1 + 0.24 * 2 + 0.24 * 8 + 0.16 * 16)


def test_finer_pixels_are_averaged_without_those_that_have_no_label(tmp_path):
    values = np.full((5, 10), 30.0)
    values.flat[:10] = 80.0  # the first row: 5 of 25 in each pixel
    values[1:, 5:8] = -1.0  # 12 of the second pixel's 25
    found = labels(tmp_path, values, pixel=2.0, size=(1, 2), profile={"nodata": -1.0})
    assert found[0, 0] == pytest.approx((5 * 80 + 20 * 30) / 25)
    assert found[0, 1] == pytest.approx((5 * 80 + 8 * 30) / 13)
    stricter = labels(
        tmp_path, values, pixel=2.0, size=(1, 2), profile={"nodata": -1.0}, minimum_valid=0.53
    )
    assert np.isnan(stricter[0, 1])
    assert stricter[0, 0] == found[0, 0]


def test_beyond_the_raster_there_is_no_label(tmp_path):
    """15 m of labels are one pixel and a half; the half counts if half is enough."""
    values = np.full((2, 3), 50.0)
    assert np.isnan(labels(tmp_path, values, pixel=5.0, minimum_valid=0.6)).tolist() == [
        [False, True],
        [True, True],
    ]
    found = labels(tmp_path, values, pixel=5.0, minimum_valid=0.5)
    assert found[0, 1] == 50.0
    assert np.isnan(found[1]).all()


@settings(max_examples=20)
@given(pixel=st.sampled_from([3.0, 7.0, 10.0, 12.5, 25.0]), seed=st.integers(0, 2**16))
def test_no_biomass_is_lost_or_made(tmp_path_factory, pixel, seed):
    """Mean times labelled share, summed over all pixels, is the raster's own total."""
    random = np.random.default_rng(seed)
    values = random.uniform(0, 300, (4, 4)).astype(np.float32)
    values[random.random((4, 4)) < 0.3] = np.nan
    path = write_tif(tmp_path_factory.mktemp("label") / "a.tif", values[None], pixel=pixel)
    label = Label.open(path, LabelOptions())
    assert not isinstance(label.source, tuple)
    mean, share = label._of_raster(label.source, grid(10, 10))
    total = np.nansum(values) * pixel**2
    assert np.nansum(mean * share) * 100 == pytest.approx(total, rel=1e-5)


def test_units_become_biomass(tmp_path):
    values = [[10.0, 20.0], [30.0, 40.0]]
    carbon = labels(tmp_path, values, unit="t C/ha", carbon_fraction=0.5)
    np.testing.assert_allclose(carbon, 2 * np.array(values))
    volume = labels(tmp_path, values, unit="m3/ha", expansion_factor=0.7)
    np.testing.assert_allclose(volume, 0.7 * np.array(values), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unit": "m3/ha"}, "labels in m3/ha need expansion_factor"),
        ({"unit": "t C/ha"}, "labels in t C/ha need carbon_fraction"),
        ({"carbon_fraction": 0.5}, "carbon_fraction is for labels in t C/ha"),
        ({"unit": "kg/m2"}, "unit: Input should be"),
    ],
)
def test_a_unit_without_its_factor_is_refused(options, sentence):
    with pytest.raises(BadInputError, match=sentence):
        LabelOptions.model_validate(options)


def test_another_coordinate_system_keeps_a_constant_and_the_area(tmp_path):
    x, y = Transformer.from_crs(3067, 32636, always_xy=True).transform(WEST + 200, NORTH - 200)
    values = np.full((1, 30, 30), 90.0, np.float32)
    path = write_tif(tmp_path / "label.tif", values, pixel=5.0, crs="EPSG:32636", west=x, north=y)
    found = Label.open(path, LabelOptions()).read(grid(64, 64), Window(0, 0, 64, 64))
    assert np.nanmin(found) == np.nanmax(found) == 90.0
    assert np.isfinite(found).sum() == pytest.approx(15**2, abs=12)  # 150 m a side, turned


def test_what_the_file_does_not_call_no_data_is_stated(tmp_path):
    values = [[-9999.0, 20.0], [30.0, 40.0]]
    with pytest.raises(BadInputError, match=r"negative labels \(down to -9999 Mg/ha\)"):
        labels(tmp_path, values)
    assert np.isnan(labels(tmp_path, values, nodata=-9999.0)).sum() == 1
    with pytest.raises(BadInputError, match="up to 65,535 Mg/ha, more than any forest"):
        labels(tmp_path, [[65535.0, 20.0], [30.0, 40.0]])


def test_polygons_label_the_pixels_that_they_cover_enough(tmp_path):
    """One covers 16 m: a pixel and six tenths of the next, four tenths of which are no label."""
    path = polygons(tmp_path, [stand(0, -10, 16, 0, agb=100), stand(0, -20, 4, -10, agb=60)])
    found = Label.open(path, LabelOptions()).read(grid(2, 2), Window(0, 0, 2, 2))
    assert found[0].tolist() == [100.0, 100.0]
    assert np.isnan(found[1]).all()  # four tenths
    half = [stand(0, -10, 6, 0, volume=50), stand(6, -10, 10, 0, volume=100)]
    options = LabelOptions(attribute="volume", unit="m3/ha", expansion_factor=0.5)
    mixed = Label.open(polygons(tmp_path, half), options)
    assert mixed.read(grid(1, 1), Window(0, 0, 1, 1))[0, 0] == 0.5 * (0.6 * 50 + 0.4 * 100)


def test_polygons_in_degrees_are_moved(tmp_path):
    corners = [(0, 0), (100, 0), (100, -100), (0, -100), (0, 0)]
    to_degrees = Transformer.from_crs(3067, 4326, always_xy=True)
    ring = [list(to_degrees.transform(WEST + x, NORTH + y)) for x, y in corners]
    feature = {
        "type": "Feature",
        "properties": {"agb": 80.5},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    label = Label.open(polygons(tmp_path, [feature], crs=None), LabelOptions())
    found = label.read(grid(12, 12), Window(0, 0, 12, 12))
    assert np.isfinite(found).sum() == 100
    assert np.unique(found[:10, :10]).tolist() == [80.5]


@pytest.mark.parametrize(("name", "driver"), [("a.gpkg", "GPKG"), ("a.shp", "ESRI Shapefile")])
def test_polygons_of_other_formats_are_labels_too(tmp_path, optional, name, driver):
    """Two squares side by side in one feature, one without a number, whole and broken numbers."""
    pyogrio, shapely = optional("pyogrio"), optional("shapely")

    def write(field, values, shapes):
        wkb = shapely.to_wkb(np.array(shapes, object))
        pyogrio.raw.write(
            str(tmp_path / name), wkb, [np.array(values)], [field], crs="EPSG:3067", driver=driver,
            geometry_type="MultiPolygon" if driver == "GPKG" else "Polygon",
        )  # fmt: skip
        return tmp_path / name

    squares = [shapely.box(WEST + x, NORTH - 10, WEST + x + 10, NORTH) for x in (0, 10, 20)]
    shapes = [shapely.MultiPolygon(squares[:2]), shapely.MultiPolygon(squares[2:])]
    options = LabelOptions(attribute="volume", unit="m3/ha", expansion_factor=0.5)
    for values, expected in (([90.5, np.nan], [45.25, 45.25, np.nan]), ([90, 7], [45, 45, 3.5])):
        label = Label.open(write("volume", values, shapes), options)
        found = label.read(grid(1, 3), Window(0, 0, 3, 1))
        np.testing.assert_array_equal(found, [np.array(expected, np.float32)])
    with pytest.raises(BadInputError, match="no polygon with the attribute 'agb'"):
        Label.open(tmp_path / name, LabelOptions())
    text = write("agb", np.array(["high", "low"], object), shapes)
    with pytest.raises(BadInputError, match="whose attribute 'agb' is 'high', no number"):
        Label.open(text, LabelOptions())


def test_polygons_without_a_number_are_refused_or_left_out(tmp_path):
    square = (0, -10, 10, 0)
    with pytest.raises(BadInputError, match="no polygon with the attribute 'agb'"):
        Label.open(polygons(tmp_path, [stand(*square, volume=3)]), LabelOptions())
    with pytest.raises(BadInputError, match="whose attribute 'agb' is 'high', no number"):
        Label.open(polygons(tmp_path, [stand(*square, agb="high")]), LabelOptions())
    one = [stand(*square, agb=None), stand(10, -10, 20, 0, agb=5)]
    found = Label.open(polygons(tmp_path, one), LabelOptions())
    np.testing.assert_array_equal(found.read(grid(1, 2), Window(0, 0, 2, 1)), [[np.nan, 5]])


def test_a_file_that_is_no_label_is_refused(tmp_path):
    (tmp_path / "label.tif").write_text("no raster")
    with pytest.raises(BadInputError, match="can't be opened as a label"):
        Label.open(tmp_path / "label.tif", LabelOptions())
    path = write_tif(tmp_path / "nowhere.tif", np.ones((1, 2, 2), np.float32), crs=None)
    with pytest.raises(BadInputError, match="no coordinate system"):
        Label.open(path, LabelOptions())
    path = write_tif(tmp_path / "one.tif", np.ones((1, 2, 2), np.float32))
    with pytest.raises(BadInputError, match=r"band is 3, but .* has 1"):
        Label.open(path, LabelOptions(band=3))
