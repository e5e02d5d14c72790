"""The chip table condensed to what fits on a page."""

from typing import Any

import pandas as pd

_MOST_LISTED = 50


def summarise_table(table: pd.DataFrame) -> dict[str, Any]:
    """Counts of chips and images, and what is missing or damaged.

    Args:
        table: The chip table.

    Returns:
        JSON-ready: ``splits`` (chips, usable chips and images of each), ``missing_files``,
        ``damaged_files`` and ``left_out`` (how many there are, and the first 50).
    """
    left_out = table[~table["usable"]]
    return {
        "splits": {
            str(split): _counts(chips) for split, chips in table.groupby("split", sort=True)
        },
        "missing_files": _listed(table["missing_files"].explode().dropna()),
        "damaged_files": _listed(table["damaged_files"].explode().dropna()),
        "left_out": _listed(left_out["chip_id"] + ": " + left_out["problem"]),
    }


def _counts(chips: pd.DataFrame) -> dict[str, Any]:
    """Chips and images of one split."""
    labels = chips["agb_mean_mg_per_ha"].dropna()
    return {
        "chips": len(chips),
        "usable_chips": int(chips["usable"].sum()),
        "s1_images": int(chips["s1_months"].map(len).sum()),
        "s2_images": int(chips["s2_months"].map(len).sum()),
        "labels": len(labels),
        "agb_mean_mg_per_ha": float(labels.mean()) if len(labels) else None,
    }


def _listed(lines: pd.Series) -> dict[str, Any]:
    """How many there are, and the first of them."""
    return {"count": len(lines), "first": [str(line) for line in lines.iloc[:_MOST_LISTED]]}
