from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomassters.chips.bands import BAND_NAMES, S2
from biomassters.chips.chip import Chip
from biomassters.chips.quality.statistics import STATISTICS, BandStatistics

SETTINGS = settings(deadline=None, max_examples=25)


def a_chip(s1_db: float = -9999, s2: tuple[int, ...] = (0,) * 11, months: int = 1) -> Chip:
    """Chip of 2 × 2 pixels whose first months hold one value a band."""
    images_db = np.full((12, 4, 2, 2), -9999, np.float32)
    images_db[:months] = s1_db
    counts = np.zeros((12, 11, 2, 2), np.uint16)
    counts[:months] = np.array(s2).reshape(11, 1, 1)
    present = np.zeros((12, 2), bool)
    present[:months] = True
    return Chip("0a", "train", {"s1": images_db, "s2": counts}, present)


def statistics_of(*chips: Chip) -> BandStatistics:
    statistics = BandStatistics()
    for chip in chips:
        statistics.update(chip)
    return statistics


def test_worked_by_hand() -> None:
    chip = a_chip(-10, (*range(1, 11), 50))
    chip.images["s1"][0, 0] = [[-12.004, -11.996], [-9999, 3]]
    chip.images["s2"][0, 0] = [[1, 2], [3, 6]]
    frame = statistics_of(chip).to_frame()
    assert frame.index.tolist() == list(BAND_NAMES)
    assert frame.columns.tolist() == list(STATISTICS)
    vv = frame.loc["VV_asc"]
    assert (vv["count"], vv["min"], vv["max"]) == (3, -12, 3)
    assert vv["mean"] == pytest.approx(-7)
    assert vv["sd"] == pytest.approx(50**0.5)
    assert (vv["p25"], vv["p50"], vv["p75"]) == (-12, -12, 3)
    blue = frame.loc["B2"]
    assert (blue["count"], blue["min"], blue["max"], blue["mean"]) == (4, 1, 6, 3)
    assert blue["sd"] == pytest.approx(3.5**0.5)
    assert (blue["p01"], blue["p25"], blue["p50"], blue["p75"], blue["p99"]) == (1, 1, 2, 3, 6)


def test_what_is_left_out() -> None:
    chip = a_chip(-9999, (*range(1, 11), 80))
    chip.images["s2"][0, :, 0, 0] = 0  # never seen
    chip.images["s2"][0, -1, 0, 0] = 70
    chip.images["s2"][0, -1, 0, 1] = 255  # no cloud probability
    chip.images["s2"][0, 0, 1, 1] = 0  # seen, though dark in one band
    frame = statistics_of(chip).to_frame()
    assert frame.loc["VV_asc", "count"] == 0
    assert frame.loc["VV_asc", STATISTICS[1] :].isna().all()
    assert frame.loc["B2", ["count", "min", "max"]].tolist() == [3, 0, 1]
    assert frame.loc["B3", ["count", "min"]].tolist() == [3, 2]
    assert frame.loc["CLP", ["count", "min", "max"]].tolist() == [2, 80, 80]


@pytest.mark.parametrize("blurred", [-9998.99, -320.0, -100.01])
def test_no_data_that_was_resampled_is_left_out_as_well(blurred: float) -> None:
    statistics = BandStatistics()
    statistics.update(a_chip(blurred, (*range(1, 11), 80)))
    assert statistics.to_frame()["count"].iloc[:4].tolist() == [0, 0, 0, 0]


def test_absent_months_do_not_count() -> None:
    chip = a_chip(-10, (5,) * 11, months=3)
    counts = statistics_of(chip).to_frame()["count"]
    assert set(counts) == {3 * 4}
    chip.present[:] = False
    assert not statistics_of(chip).counts.any()


def test_values_beyond_the_store_are_clipped() -> None:
    chip = a_chip(1000, (65535,) * 11)
    frame = statistics_of(chip).to_frame()
    assert frame.loc["VV_asc", "max"] == 327.67
    assert frame.loc["B2", "max"] == 65535


def test_nothing() -> None:
    assert BandStatistics().to_frame()["count"].tolist() == [0] * 15


@SETTINGS
@given(st.integers(0, 2**32 - 1))
def test_as_numpy(seed: int) -> None:
    random = np.random.default_rng(seed)
    chip = a_chip(-10, (5,) * 11, months=12)
    chip.images["s1"][:] = np.round(random.normal(-12, 4, chip.images["s1"].shape), 2)
    chip.images["s2"][:] = random.integers(1, 99, chip.images["s2"].shape)
    frame = statistics_of(chip).to_frame()
    for band, name in enumerate(S2.bands):
        values = chip.images["s2"][:, band].astype(float)
        row = frame.loc[name]
        assert row["mean"] == pytest.approx(values.mean())
        assert row["sd"] == pytest.approx(values.std())
        assert row["p05"] == np.percentile(values, 5, method="inverted_cdf")
        assert row["p95"] == np.percentile(values, 95, method="inverted_cdf")
    assert frame.loc["VH_desc", "mean"] == pytest.approx(chip.images["s1"][:, 3].mean(dtype=float))


@SETTINGS
@given(st.permutations(range(4)), st.integers(0, 4))
def test_parts_merge_in_any_order(order: list[int], cut: int) -> None:
    chips = [a_chip(-10.5 - number, (3 + number,) * 11) for number in range(4)]
    whole = statistics_of(*chips)
    merged = statistics_of(*(chips[number] for number in order[:cut]))
    merged.add(statistics_of(*(chips[number] for number in order[cut:])).occupied())
    np.testing.assert_array_equal(merged.counts, whole.counts)


def test_random_chip(make_chip: Callable[..., Chip]) -> None:
    frame = statistics_of(make_chip("0a")).to_frame()
    assert frame.loc["VV_asc", "count"] == 12 * 32 * 32
    assert frame.loc["B2", "count"] == 3 * 32 * 32
