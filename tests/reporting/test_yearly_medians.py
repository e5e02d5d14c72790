import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomassters.chips.bands import BAND_NAMES, CLP_NONE, S1_NODATA_DB
from biomassters.chips.chip import Chip
from biomassters.reporting.yearly_medians import _median, yearly_medians


@pytest.fixture
def chip() -> Chip:
    """Two pixels; Sentinel-1 in months 0-2, Sentinel-2 in months 5-8."""
    s1 = np.full((12, 4, 1, 2), S1_NODATA_DB, np.float32)
    s1[:3, 0, 0, 0] = [-10, -12, -17]
    s1[:2, 1, 0, 1] = [-20, -22]
    s2 = np.zeros((12, 11, 1, 2), np.uint16)
    s2[5:9, 0, 0, 0] = [100, 300, 200, 900]
    s2[5:9, 10, 0, 0] = [0, 10, CLP_NONE, 30]
    s2[5:9, 10, 0, 1] = 7  # a cloud probability where nothing was seen
    present = np.zeros((12, 2), bool)
    present[:3, 0] = present[5:9, 1] = True
    return Chip("a", "train", s1, s2, present)


def test_values_worked_by_hand(chip):
    medians = dict(zip(BAND_NAMES, yearly_medians(chip), strict=True))
    assert medians["VV_asc"][0] == -12
    assert medians["VH_asc"][1] == -21
    assert medians["B2"][0] == 250
    assert medians["B3"][0] == 0  # seen, and dark
    assert medians["CLP"][0] == 10


def test_what_no_month_saw_is_nan(chip):
    medians = dict(zip(BAND_NAMES, yearly_medians(chip), strict=True))
    assert np.isnan(medians["VV_asc"][1])
    assert np.isnan(medians["VV_desc"]).all()
    assert np.isnan(medians["B2"][1])
    assert np.isnan(medians["CLP"][1])


def test_chosen_pixels_are_those_of_the_whole_chip(grow_chip):
    chip = grow_chip("c", 80.0)
    pixels = np.array([5, 0, 700])
    np.testing.assert_array_equal(yearly_medians(chip, pixels), yearly_medians(chip)[:, pixels])


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 4)),
        elements=st.floats(-100, 100, width=32) | st.just(np.nan),
    )
)
def test_median_equals_numpys(values):
    np.testing.assert_allclose(_median(values), np.nanmedian(values, axis=0), rtol=1e-6)
