import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biomassters.chips.bands import S1


def test_values_worked_by_hand():
    values = np.array([-12.7, 0.0, 0.004, 0.006, -9999.0, 400.0, -400.0], np.float32)
    expected = [-1270, 0, 0, 1, -32768, 32767, -32768]
    assert S1.pack(values).tolist() == expected
    back = S1.unpack(np.array([-1270, -32768, 32767], np.int16))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, [-12.7, -9999, 327.67], rtol=1e-6)


@pytest.mark.parametrize("value", [-9998.99, -9000.0, -330.0, -100.01])
def test_no_data_that_was_resampled_is_no_data(value):
    """It used to become −327.67 dB, which a network takes for backscatter."""
    assert S1.pack(np.array([value, -99.99], np.float32)).tolist() == [-32768, -9999]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_is_no_data(value):
    assert S1.pack(np.array([value], np.float32)) == -32768


@given(arrays(np.float32, 20, elements=st.floats(-80, 50, width=32)))
def test_off_by_half_a_step_at_most(backscatter_db):
    back = S1.unpack(S1.pack(backscatter_db))
    assert np.abs(back.astype(float) - backscatter_db).max() <= 0.005 + 1e-5


def test_result_is_contiguous_whatever_the_source():
    image = np.moveaxis(np.zeros((5, 6, 4), np.float32), -1, 0)
    assert S1.pack(image).flags.c_contiguous
