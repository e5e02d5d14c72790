"""CSVs for spreadsheets: no formulas, numbers as numbers, what is saved is loaded."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from biomassters.datasets.spreadsheet_csv import SpreadsheetCSVDataset, escape_formulas

TEXTS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\tx", "'quoted", "001b0634", None]


@pytest.fixture
def table() -> pd.DataFrame:
    numbers = np.linspace(-3.5, 3.5, len(TEXTS))
    return pd.DataFrame({"chip_id": TEXTS, "bias": numbers, "pixels": range(-4, 4)})


@pytest.mark.parametrize("dtype", [object, "string"])
def test_texts_are_escaped_and_numbers_stay(table, dtype):
    escaped = escape_formulas(table.astype({"chip_id": dtype}))
    assert escaped["chip_id"].iloc[:7].tolist() == [*("'" + text for text in TEXTS[:6]), "001b0634"]
    assert escaped["chip_id"].isna().tolist() == [False] * 7 + [True]
    pd.testing.assert_frame_equal(escaped[["bias", "pixels"]], table[["bias", "pixels"]])


def test_what_is_saved_is_loaded(table, tmp_path):
    path = tmp_path / "scores.csv"
    dataset = SpreadsheetCSVDataset(
        filepath=str(path), load_args={"dtype": {"chip_id": str}}, save_args={"index": False}
    )
    dataset.save(table)
    first = [line.strip('"')[0] for line in path.read_text().splitlines()[1:]]
    assert not set(first) & set("=+-@\t")
    loaded = dataset.load()
    assert loaded["chip_id"].iloc[:-1].tolist() == TEXTS[:-1]
    pd.testing.assert_frame_equal(loaded[["bias", "pixels"]], table[["bias", "pixels"]])


def test_every_table_of_the_report_is_such_a_file():
    catalog = {}
    for path in (Path(__file__).parents[2] / "conf/base").glob("catalog_*.yml"):
        catalog |= yaml.safe_load(path.read_text())
    tables = {
        name: entry["type"]
        for name, entry in catalog.items()
        if "08_reporting" in str(entry) and entry["filepath"].endswith(".csv")
    }
    assert "scores_per_chip" in tables
    assert {kind.rpartition(".")[2] for kind in tables.values()} == {"SpreadsheetCSVDataset"}
