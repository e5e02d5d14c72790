"""What a listing of an archive says of its chips, before a single file is there."""

import pandas as pd

from biomassters.chips.bands import SENSORS


def chip_inventory(features: pd.DataFrame) -> pd.DataFrame:
    """Chips of a listing, and which months they have.

    Args:
        features: One row an image: chip_id, split, sensor (``"s1"`` or ``"s2"``), month (0 is
            September), as ``read_features`` gives them.

    Returns:
        One row a chip by name: chip_id, split, s1_months and s2_months (ascending lists), and
        months (number of months with an image of any sensor). The columns that the chip table
        has too mean the same there.
    """
    ordered = features.sort_values(["chip_id", "month"], kind="stable")
    table = ordered.groupby("chip_id")["split"].first().to_frame()
    for sensor in SENSORS:
        images = ordered[ordered["sensor"] == sensor.name]
        months: dict[str, list[int]] = {chip_id: [] for chip_id in table.index}
        for chip_id, month in images[["chip_id", "month"]].to_numpy():
            months[chip_id].append(month)
        table[f"{sensor.name}_months"] = list(months.values())
    distinct = ordered[["chip_id", "month"]].drop_duplicates()
    table["months"] = distinct.groupby("chip_id").size()
    return table.reset_index()
