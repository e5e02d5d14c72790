"""The chip table condensed for the report: how much data, of which months, and what is wrong.

The table itself, one row a chip, comes from ``chip_table``.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from biomassters.chips.bands import MONTH_COUNT, MONTH_NAMES, SENSORS

_LISTED = 20


@dataclass(frozen=True)
class Listing:
    """How many faults there are, and the first of them: chip and what is wrong."""

    count: int
    shown: tuple[tuple[str, str], ...]

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.count - len(self.shown)


@dataclass(frozen=True)
class DataSummary:
    """What a report says about its data.

    Attributes:
        splits: One row a split: split, chips, usable, labelled, size, s2_months (as
            ``"5 to 12, median 11"``), agb_mean (Mg/ha, or None).
        months: One row a month from September: name, and by sensor the share of usable chips with
            an image.
        missing: Chips with files that the metadata lists but the archive lacks.
        damaged: Chips with files that can't be used.
        left_out: Chips that are not used, and why.
    """

    splits: tuple[dict[str, Any], ...]
    months: tuple[dict[str, Any], ...]
    missing: Listing
    damaged: Listing
    left_out: Listing

    @property
    def sensors(self) -> dict[str, str]:
        """What the sensors are called, by name."""
        return {sensor.name: sensor.title for sensor in SENSORS}


def summarise_data(chip_table: pd.DataFrame) -> DataSummary:
    """Condense the table of ``chip_table.inspect_archive``."""
    is_usable = chip_table["usable"].astype(bool)
    usable = chip_table[is_usable]
    splits = chip_table.groupby("split", sort=False)
    return DataSummary(
        splits=tuple(_split_row(str(name), rows) for name, rows in splits),
        months=tuple(_month_row(month, usable) for month in range(MONTH_COUNT)),
        missing=_listing(chip_table, chip_table["missing_files"].map(", ".join)),
        damaged=_listing(chip_table, chip_table["damaged_files"].map(", ".join)),
        left_out=_listing(chip_table, chip_table["problem"].where(~is_usable, "")),
    )


def _split_row(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    months = rows["s2_months"].map(len)
    sizes = rows[["height", "width"]].drop_duplicates().astype(int)
    agb = rows["agb_mean_mg_per_ha"].mean()
    return {
        "split": name,
        "chips": len(rows),
        "usable": int(rows["usable"].sum()),
        "labelled": int(rows["agb_mean_mg_per_ha"].notna().sum()),
        "size": ", ".join(f"{height} × {width}" for height, width in sizes.to_numpy()),
        "s2_months": f"{months.min()} to {months.max()}, median {months.median():g}",
        "agb_mean": None if pd.isna(agb) else float(agb),
    }


def _month_row(month: int, usable: pd.DataFrame) -> dict[str, Any]:
    def share(months: pd.Series) -> float:
        return sum(month in listed for listed in months) / max(1, len(months))

    shares = {sensor.name: share(usable[f"{sensor.name}_months"]) for sensor in SENSORS}
    return {"name": MONTH_NAMES[month], **shares}


def _listing(chip_table: pd.DataFrame, faults: pd.Series) -> Listing:
    wrong = faults[faults != ""]
    chips = chip_table.loc[wrong.index, "chip_id"]
    pairs = zip(chips[:_LISTED], wrong[:_LISTED], strict=True)
    return Listing(len(wrong), tuple((str(chip), str(fault)) for chip, fault in pairs))
