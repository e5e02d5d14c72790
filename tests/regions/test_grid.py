"""Whatever grid the images have, the map's pixels have 10 m on the ground."""

import numpy as np
import pytest

from biomassters.errors import BadInputError
from biomassters.regions.inputs.source import open_region
from biomassters.regions.options import AreaOptions, ImageOptions

from .conftest import images_at


def opened(folder, **images):
    return open_region(str(folder), ImageOptions(**images), AreaOptions())


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
