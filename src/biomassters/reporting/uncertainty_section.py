"""What the report says of intervals, carbon and attention, ready for its template."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from biomassters.chips.bands import MONTH_NAMES
from biomassters.uncertainty.intervals import IntervalModel


def _nothing() -> pd.DataFrame:
    return pd.DataFrame()


@dataclass(frozen=True, eq=False)
class UncertaintyContent:
    """What was found about errors; everything may be empty.

    Attributes:
        models: ``intervals``, ``errors``, ``level`` and ``measured``, as the calibration wrote
            them.
        by_level: level, pixel_coverage, chip_mean_coverage.
        by_class: biomass_class, pixels, coverage, mean_width.
        per_chip: chip_id, coverage, means and the interval of the mean.
        carbon: ``held_out``, ``test``, ``hectares``, ``level``.
        attention: chip_id, stride, month, weight, has_s2.
    """

    models: Mapping[str, Any] = field(default_factory=dict)
    by_level: pd.DataFrame = field(default_factory=_nothing)
    by_class: pd.DataFrame = field(default_factory=_nothing)
    per_chip: pd.DataFrame = field(default_factory=_nothing)
    carbon: Mapping[str, Any] = field(default_factory=dict)
    attention: pd.DataFrame = field(default_factory=_nothing)

    @property
    def intervals(self) -> IntervalModel | None:
        """The interval model, if there is one."""
        found = self.models.get("intervals")
        return IntervalModel.from_dict(found) if found else None

    @property
    def measured(self) -> Mapping[str, Any]:
        """Coverage and widths."""
        return self.models.get("measured", {})

    def carbon_rows(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Each split that was added up, with its name for people."""
        names = (("held_out", "Held-out chips"), ("test", "Test chips"))
        return [(name, self.carbon[key]) for key, name in names if self.carbon.get(key)]

    def attention_by_availability(self) -> list[dict[str, Any]]:
        """A row a month: chips and mean weight (%, all levels) with and without Sentinel-2."""
        rows = []
        if self.attention.empty:
            return []
        for month, name in enumerate(MONTH_NAMES):
            here = self.attention[self.attention["month"] == month]
            row: dict[str, Any] = {"month": name}
            for key, chosen in (("with", here[here["has_s2"]]), ("without", here[~here["has_s2"]])):
                row[f"{key}_chips"] = int(chosen["chip_id"].nunique())
                row[f"{key}_weight"] = 100 * chosen["weight"].mean() if len(chosen) else None
            rows.append(row)
        return rows

    def strides(self) -> list[int]:
        """The levels that attention was read at, in pixels, finest first."""
        return [] if self.attention.empty else sorted(set(self.attention["stride"].tolist()))

    def attention_of(self, chip_id: str) -> list[dict[str, Any]]:
        """A row a month that the chip has: weight (%) at each level, and whether S2 is there."""
        if self.attention.empty:
            return []
        here = self.attention[self.attention["chip_id"] == chip_id]
        rows = []
        for month, values in here.groupby("month"):
            weights = dict(zip(values["stride"], 100 * values["weight"], strict=True))
            rows.append(
                {
                    "month": MONTH_NAMES[int(str(month))],
                    "has_s2": bool(values["has_s2"].iloc[0]),
                    "weights": [weights[stride] for stride in sorted(weights)],
                }
            )
        return rows
