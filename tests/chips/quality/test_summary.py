import pandas as pd
import pytest

from biomassters.chips.bands import MONTH_NAMES
from biomassters.chips.quality.summary import summarise_data


def test_splits_count_what_is_there_and_what_is_usable(chip_table):
    train, test = summarise_data(chip_table).splits
    assert train["chips"] == 3
    assert train["usable"] == 2
    assert train["labelled"] == 2
    assert train["size"] == "32 × 48"
    assert train["s2_months"] == "0 to 3, median 1"
    assert train["agb_mean"] == pytest.approx(50.0)
    assert test["agb_mean"] is None


def test_months_are_those_of_usable_chips(chip_table):
    months = {row["name"]: row for row in summarise_data(chip_table).months}
    assert tuple(months) == MONTH_NAMES
    assert months["June"]["s2"] == pytest.approx(1.0)
    assert months["September"]["s2"] == pytest.approx(1 / 3)
    assert months["January"]["s2"] == 0
    assert all(row["s1"] == 1 for row in months.values())


def test_faults_are_listed_by_chip(chip_table):
    data = summarise_data(chip_table)
    assert data.missing.shown == (("t0", "t0_S1_03.tif, t0_S1_04.tif"),)
    assert data.damaged.shown == (("c2", "c2_S2_07.tif"),)
    assert data.left_out.shown == (("c2", "c2_S2_07.tif is truncated."),)


def test_long_lists_are_cut_and_counted(chip_table):
    damaged = chip_table[chip_table["chip_id"] == "c2"]
    listing = summarise_data(pd.concat([damaged] * 50, ignore_index=True)).damaged
    assert listing.count == 50
    assert listing.more == 50 - len(listing.shown) > 0


def test_survives_parquet_and_a_table_without_usable_chips(chip_table, tmp_path):
    chip_table.to_parquet(tmp_path / "table.parquet")
    again = pd.read_parquet(tmp_path / "table.parquet")
    assert summarise_data(again) == summarise_data(chip_table)
    unusable = summarise_data(chip_table.assign(usable=False))
    assert {row["s2"] for row in unusable.months} == {0.0}
