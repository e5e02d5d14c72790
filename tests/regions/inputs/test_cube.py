import numpy as np
import pytest
from tests.regions.conftest import NORTH, WEST, everything_at, month_values

from biomassters.errors import BadInputError


def write_cube(path, s1, s2, present, **attributes):
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs.update(attributes)
    group.create_array("s1", data=s1, chunks=(1, 4, 16, 16))
    group.create_array("s2", data=s2, chunks=(1, 11, 16, 16))
    group.create_array("present", data=present)


def test_a_cube(tmp_path):
    shape = (40, 50)
    months = [month_values(*shape, seed) for seed in range(12)]
    s1 = np.stack([np.rint(one[0] * 100).astype(np.int16) for one in months])
    s2 = np.stack([one[1] for one in months])
    present = np.zeros((12, 2), bool)
    present[3], present[7, 1] = True, True
    transform = (10.0, 0.0, WEST, 0.0, -10.0, NORTH)
    path = tmp_path / "cube.zarr"
    write_cube(path, s1, s2, present, crs="EPSG:3067", transform=transform)
    images = everything_at(path)
    assert images.months == (3, 7)
    np.testing.assert_array_equal(images.images["s1"][0], s1[3])
    assert (images.images["s1"][1] == -32768).all()
    np.testing.assert_array_equal(images.images["s2"], s2[[3, 7]])


def test_a_cube_that_lies_nowhere(tmp_path):
    s1, s2 = np.zeros((12, 4, 8, 8), np.int16), np.zeros((12, 11, 8, 8), np.uint16)
    write_cube(tmp_path / "c.zarr", s1, s2, np.ones((12, 2), bool))
    with pytest.raises(BadInputError, match="doesn't say where it lies"):
        everything_at(tmp_path / "c.zarr")


def test_no_cube(tmp_path):
    with pytest.raises(BadInputError, match="is no Zarr group"):
        everything_at(tmp_path / "nothing.zarr")
