import numpy as np
import pytest

from biomassters.chips.quality.pixel_facts import pixel_facts


def image(height=32, width=48):
    return np.random.default_rng(1).normal(-10, 2, (4, height, width)).astype(np.float32)


def test_shares_by_hand():
    values = image()
    values[0, :16] = -9999  # half of one of four bands
    values[1, 0, :12] = 0
    facts = pixel_facts(values)
    assert facts.nodata_fraction == 1 / 8
    assert facts.zero_fraction == 12 / values.size
    assert (facts.nan_fraction, facts.constant_block_fraction, facts.fault) == (0, 0, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted(bad):
    values = image()
    values[2, 3, 4:7] = bad
    facts = pixel_facts(values)
    assert facts.nan_fraction == 3 / values.size
    assert facts.fault == "has 3 NaN or infinite values"


def test_blocks_of_one_value():
    values = image()
    values[3, 16:32, 16:32] = -7.5
    assert pixel_facts(values).constant_block_fraction == 1 / 24
    values[3, 20, 20] = -7.4
    assert pixel_facts(values).constant_block_fraction == 0


def test_cloud_probability_may_be_constant():
    values = np.random.default_rng(1).integers(1, 999, (11, 16, 16)).astype(np.uint16)
    values[-1] = 255
    assert pixel_facts(values).constant_block_fraction == 0


def test_all_zero_is_a_fault_of_an_image_but_not_of_a_label():
    assert pixel_facts(np.zeros((11, 16, 16), np.uint16)).fault == "is 0 everywhere"
    assert pixel_facts(np.zeros((1, 16, 16), np.float32), is_label=True).fault is None


def test_a_negative_label():
    label = np.ones((1, 16, 16), np.float32)
    label[0, 0, 0] = -1
    assert pixel_facts(label, is_label=True).fault == "has 1 negative pixel"


def test_less_than_a_block():
    assert pixel_facts(np.full((4, 8, 8), 3.0, np.float32)).constant_block_fraction == 0
