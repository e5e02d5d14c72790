import math

import numpy as np
import pytest

from biomassters.errors import BadInputError
from biomassters.metrics import DensityHistogram


def test_density_counts_every_pixel_and_clamps_the_outside():
    density = DensityHistogram(top_mg_per_ha=100.0, bins=10)
    target = np.array([[0.0, 9.9, 10.0, 100.0, 5000.0]])
    prediction = np.array([[-5.0, 10.0, 55.0, 99.0, 100.0]])
    density.update("a", prediction, target)
    expected = np.zeros((10, 10), int)
    for row, column in [(0, 0), (0, 1), (1, 5), (9, 9), (9, 9)]:
        expected[row, column] += 1
    np.testing.assert_array_equal(density.counts, expected)
    assert density.edges[[0, 1, -1]].tolist() == [0.0, 10.0, 100.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused_by_name(value):
    bad = np.array([[0.0, value]])
    with pytest.raises(BadInputError, match="Chip 00ab: 1 of 2 pixels of the prediction"):
        DensityHistogram().update("00ab", bad, np.zeros((1, 2)))
