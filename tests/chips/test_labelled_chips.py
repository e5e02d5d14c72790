import numpy as np
import pytest

from biomassters.chips.labelled_chips import positions, read_label
from biomassters.errors import BadInputError


def test_positions_follow_the_names(forest):
    assert positions(forest, ["c4", "c0"]) == [4, 0]


def test_unknown_or_no_chips_are_refused(forest):
    with pytest.raises(BadInputError, match=r"Chip x is not in the chip store \(1 of 2"):
        positions(forest, ["c1", "x"])
    with pytest.raises(BadInputError, match="No chips"):
        positions(forest, [])


def test_label_is_the_chips_own(forest):
    np.testing.assert_array_equal(read_label(forest, 2), forest.chips[2].agb_mg_per_ha)
