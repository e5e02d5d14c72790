"""Tables that people open in a spreadsheet, as CSV that no spreadsheet takes for formulas."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from kedro_datasets.pandas import CSVDataset

# What spreadsheets begin a formula with (OWASP, "CSV Injection"), and the sign that escapes it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ESCAPE = "'"


def escape_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts are texts in a spreadsheet, too; numbers stay numbers.

    >>> escape_formulas(pd.DataFrame({"chip_id": ["=1+1", "a"], "bias": [-1.0, 2.0]}))
      chip_id  bias
    0   '=1+1  -1.0
    1       a   2.0
    """
    return _of_texts(
        table, lambda text: _ESCAPE + text if text.startswith((*_FORMULA, _ESCAPE)) else text
    )


def unescape_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table that ``escape_formulas`` was given."""
    return _of_texts(table, lambda text: text.removeprefix(_ESCAPE))


def _of_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    texts = [
        name for name, column in table.items()
        if pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)
    ]  # fmt: skip
    changed = {
        name: table[name].map(lambda cell: change(cell) if isinstance(cell, str) else cell)
        for name in texts
    }
    return table.assign(**{str(name): column for name, column in changed.items()})


class SpreadsheetCSVDataset(CSVDataset):
    """``pandas.CSVDataset`` with escaped formulas; what it saves it loads.

    Example:
        >>> path = "data/08_reporting/simulated/scores_per_chip.csv"
        >>> SpreadsheetCSVDataset(filepath=path).load()  # doctest: +SKIP
    """

    # Kedro wraps every class's load and save and logs each call: the parent's own are called.

    def load(self) -> pd.DataFrame:
        """The table as it was saved."""
        return unescape_formulas(CSVDataset.load.__wrapped__(self))

    def save(self, data: pd.DataFrame) -> None:
        """Write the table, texts that look like formulas escaped."""
        save: Any = CSVDataset.save
        save.__wrapped__(self, escape_formulas(data))
