"""Styles for QGIS: the colours of the page, by the values of the map; the width as a raster."""

from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from biomassters.regions.map_side_files import map_styles, style
from biomassters.regions.map_writer import BANDS


@pytest.fixture
def agb_map(tmp_path):
    path = tmp_path / "a & b.tif"
    profile = {"driver": "GTiff", "count": 4, "height": 2, "width": 3, "dtype": "float32",
               "crs": "EPSG:3067", "nodata": np.nan,
               "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 69e5)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.array([np.full((2, 3), value, np.float32) for value in (80, 50, 130, 12)]))
        file.descriptions = BANDS
    return path


def items(text):
    root = ElementTree.fromstring(text)
    assert root.tag == "qgis"
    return [(float(one.get("value")), one.get("color")) for one in root.iter("item")]


def test_colours_run_from_the_lowest_to_the_highest_value():
    found = items(style(1, "viridis", 0.0, 300.0))
    assert [value for value, _ in found] == pytest.approx(np.linspace(0, 300, 11))
    assert found[0][1] == "#440154"  # viridis begins and ends with these
    assert found[-1][1] == "#fde725"
    for value, colour in found:
        expected = colormaps["viridis"](value / 300)[:3]
        np.testing.assert_allclose(to_rgb(colour), expected, atol=1 / 255)


def test_the_renderer_names_its_band_and_range():
    renderer = ElementTree.fromstring(style(3, "magma", 0.0, 150.0)).find(".//rasterrenderer")
    assert renderer.get("type") == "singlebandpseudocolor"
    assert renderer.get("band") == "3"
    assert (renderer.get("classificationMin"), renderer.get("classificationMax")) == ("0", "150")
    assert renderer.find("rastershader/colorrampshader").get("colorRampType") == "INTERPOLATED"


def test_the_width_is_the_difference_of_the_bounds(agb_map):
    files = map_styles(agb_map, 200.0, 100.0)
    assert set(files) == {".qml", "_interval_width.vrt", "_interval_width.qml"}
    path = agb_map.with_name("a & b_interval_width.vrt")
    path.write_text(files["_interval_width.vrt"])
    with rasterio.open(path) as width, rasterio.open(agb_map) as whole:
        np.testing.assert_array_equal(width.read(1), np.full((2, 3), 80.0))
        assert (width.crs, width.transform, width.shape) == (whole.crs, whole.transform, (2, 3))
        assert np.isnan(width.nodata)
    assert items(files["_interval_width.qml"])[-1][0] == 100.0


def test_a_map_without_intervals_has_no_width(agb_map):
    assert set(map_styles(agb_map, 200.0, None)) == {".qml"}
