"""Areas on the ground against geodesic polygons and figures worked by hand."""

import pickle

import numpy as np
import pytest
from pyproj import Geod, Transformer

from biomassters.chips.ground import GroundPixels
from biomassters.errors import BadInputError

WEB_MERCATOR_NORTH = 8_859_142.8  # of 62° N


def pixels(crs, longitude, latitude, size, count):
    """Square map pixels whose upper left corner lies there."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    return GroundPixels(crs, (size, 0.0, x, 0.0, -size, y), count, count)


def geodesic_area_ha(ground, points=200):
    """Of the whole raster, by Karney's polygons on the ellipsoid: another way to it."""
    a, _, x, _, e, y = ground.transform
    steps = np.linspace(0, 1, points, endpoint=False)
    zero, one = np.zeros(points), np.ones(points)
    columns = np.concatenate([steps, one, 1 - steps, zero]) * ground.width
    rows = np.concatenate([zero, steps, one, 1 - steps]) * ground.height
    geodetic = "EPSG:4269" if ground.crs == "EPSG:2263" else "EPSG:4326"
    way = Transformer.from_crs(ground.crs, geodetic, always_xy=True)
    degrees = way.transform(a * columns + x, e * rows + y)
    return abs(Geod(ellps="WGS84").polygon_area_perimeter(*degrees)[0]) / 10_000


def test_web_mercator_at_62_degrees_worked_by_hand():
    """A map metre there has N cos φ / a metres of ground across and M cos φ / a down.

    M = a (1 − e²) / (1 − e² sin² φ)^1.5 and N = a / √(1 − e² sin² φ) are the ellipsoid's radii of
    curvature; a pixel of 10 m then has 22.12 m² at φ = 62°, and 4096 of them 9.06 ha, not 40.96.
    """
    ground = GroundPixels("EPSG:3857", (10, 0, 2_782_987, 0, -10, WEB_MERCATOR_NORTH), 64, 64)
    sin2 = np.sin(np.radians(62)) ** 2
    e2 = 0.00669437999014
    across = np.cos(np.radians(62)) / np.sqrt(1 - e2 * sin2)
    down = np.cos(np.radians(62)) * (1 - e2) / (1 - e2 * sin2) ** 1.5
    first = ground.areas_ha()[0, 0]
    assert first == pytest.approx(100 * across * down / 10_000, rel=1e-5)
    assert ground.areas_ha().sum() == pytest.approx(9.06, abs=0.005)
    np.testing.assert_allclose(ground.sides_m(), [[10 * across, 10 * down]] * 5, rtol=3e-4)


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude", "size"),
    [
        ("EPSG:32635", 27.0, 62.0, 10),  # the zone's middle: 0.08 % too few map metres
        ("EPSG:32635", 29.99, 0.5, 10),  # its edge at the equator
        ("EPSG:32735", 24.01, -33.0, 10),
        ("EPSG:3067", 19.2, 60.3, 10),  # Finland's only zone, at its western end
        ("EPSG:3035", 31.0, 69.0, 10),
        ("EPSG:3857", 25.0, 62.0, 10),
        ("EPSG:4326", 25.0, 62.0, 1e-4),
        ("EPSG:2263", -73.9, 40.7, 10),  # feet
    ],
)
def test_areas_are_those_of_geodesic_polygons(crs, longitude, latitude, size):
    ground = pixels(crs, longitude, latitude, size, 1000)
    found, expected = ground.areas_ha().sum(), geodesic_area_ha(ground)
    assert found == pytest.approx(expected, rel=1e-6)  # 0.1 % is what is asked for


def test_feet_are_no_metres():
    feet = pixels("EPSG:2263", -73.9, 40.7, 10, 10)
    assert feet.areas_ha()[0, 0] == pytest.approx(0.01 * 0.3048**2, rel=1e-3)
    np.testing.assert_allclose(feet.sides_m(), 3.048, rtol=1e-3)


def test_windows_are_parts_of_the_whole():
    ground = pixels("EPSG:3857", 25.0, 62.0, 10, 300)
    whole = ground.areas_ha()
    assert whole[0, 0] < whole[-1, 0]  # to the south pixels are larger
    np.testing.assert_allclose(ground.areas_ha(70, 5, 130, 295), whole[70:200, 5:], rtol=1e-9)
    np.testing.assert_array_equal(ground.areas_ha(299, 299, 1, 1), whole[-1:, -1:])


def test_one_pixel_and_another_process():
    ground = pixels("EPSG:32635", 27.0, 62.0, 10, 1)
    assert ground.areas_ha().shape == (1, 1)
    copy = pickle.loads(pickle.dumps(ground))
    np.testing.assert_array_equal(copy.areas_ha(), ground.areas_ha())


@pytest.mark.parametrize("crs", ["nonsense", 'LOCAL_CS["somewhere",UNIT["metre",1]]'])
def test_a_coordinate_system_without_ground(crs):
    with pytest.raises(BadInputError, match="says nothing of the ground"):
        GroundPixels(crs, (10, 0, 0, 0, -10, 0), 4, 4).areas_ha()


def test_pixels_beyond_the_world():
    with pytest.raises(BadInputError, match="no place on the ground"):
        GroundPixels("EPSG:32635", (10, 0, 1e12, 0, -10, 1e12), 4, 4).areas_ha()
