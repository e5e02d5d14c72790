import numpy as np
import pytest

from biomassters.chips.chip import Chip, positions, read_label
from biomassters.errors import BadInputError


def arrays(size=(2, 3)):
    return {
        "images": {
            "s1": np.full((12, 4, *size), -10.0, np.float32),
            "s2": np.ones((12, 11, *size), np.uint16),
        },
        "present": np.ones((12, 2), bool),
    }


def test_shape_and_month_mask():
    values = arrays()
    values["present"][3] = [False, True]
    values["present"][4] = False
    chip = Chip("a", "test", **values)
    assert chip.shape == (2, 3)
    assert chip.month_mask.tolist() == [True] * 4 + [False] + [True] * 7


def test_valid_pixels_of_sentinel_1_are_those_above_the_nodata_value():
    values = arrays()
    values["images"]["s1"][5, 2, 1, 1] = -9998.99  # as resampling leaves −9999
    valid = Chip("a", "test", **values).valid("s1", 5)
    assert valid.sum() == valid.size - 1
    assert not valid[2, 1, 1]


def test_a_pixel_with_data_in_one_band_was_seen():
    values = arrays()
    values["images"]["s1"][5, :, 1, 1] = values["images"]["s1"][5, 1:, 0, 0] = -9999
    seen = Chip("a", "test", **values).seen("s1", 5)
    assert seen.tolist() == [[True] * 3, [True, False, True]]


def test_a_pixel_with_cloud_probability_alone_was_never_seen():
    values = arrays()
    values["images"]["s2"][0, :, 0, 0] = 0
    values["images"]["s2"][0, -1, 0, 0] = 255
    chip = Chip("a", "test", **values)
    assert chip.seen("s2", 0).tolist() == [[False, True, True], [True] * 3]
    assert (chip.valid("s2", 0) == chip.seen("s2", 0)).all()


def test_a_pixel_without_a_cloud_probability_was_seen_all_the_same():
    values = arrays()
    values["images"]["s2"][0, -1, 1, 2] = 255
    seen = Chip("a", "test", **values).valid("s2", 0)
    assert seen[:-1].all()
    assert seen[-1].tolist() == [[True] * 3, [True, True, False]]


def test_a_band_is_found_by_its_name():
    values = arrays()
    values["images"]["s2"][4, 10] = 70
    assert Chip("a", "test", **values).band("CLP")[:, 0, 0].tolist() == [1] * 4 + [70] + [1] * 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("s1", np.zeros((12, 3, 2, 3), np.float32)),
        ("s2", np.zeros((11, 11, 2, 3), np.uint16)),
        ("present", np.ones((12, 3), bool)),
        ("agb_mg_per_ha", np.zeros((3, 2), np.float32)),
    ],
)
def test_wrong_shapes_are_named(name, value):
    values = arrays()
    (values["images"] if name in values["images"] else values)[name] = value
    with pytest.raises(ValueError, match="Chip a: (label|" + name + ") has shape"):
        Chip("a", "train", **values)


def test_a_sensor_too_few_or_too_many_is_named():
    values = arrays()
    del values["images"]["s2"]
    with pytest.raises(ValueError, match="Chip a: images of s1, not of s1, s2"):
        Chip("a", "train", **values)


def test_positions_follow_the_names(forest):
    assert positions(forest, ["c4", "c0"]) == [4, 0]


def test_unknown_or_no_chips_are_refused(forest):
    with pytest.raises(BadInputError, match=r"Chip x is not in the chip store \(1 of 2"):
        positions(forest, ["c1", "x"])
    with pytest.raises(BadInputError, match="No chips"):
        positions(forest, [])


def test_label_is_the_chips_own(forest):
    np.testing.assert_array_equal(read_label(forest, 2), forest.chips[2].agb_mg_per_ha)
