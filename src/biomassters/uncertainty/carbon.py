"""Biomass and carbon of chips and of whole sets of chips, in Mg, with honest intervals.

Chips are what was drawn, so chips are what is drawn anew: nothing here takes pixels for
independent. Chips don't say where they lie, so each pixel has the area that ``chips.bands`` states,
100 m²; the area of a region's pixels is measured on the ground (``regions.summary``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import PIXEL_HA
from biomassters.console import tracked
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions

_HALF_WIDTH_LEVEL = 0.9
# ART (2021), The REDD+ Environmental Excellence Standard (TREES) 2.0, section 8: the deduction
# is 0.524417 x half-width of the 90 % interval / 1.645006, half-width as a share of the total.
_DEDUCTION = 0.524417 / 1.645006


@dataclass(frozen=True)
class SetTotal:
    """Biomass of a set of chips.

    Attributes:
        chips: How many.
        area_ha: Their area.
        mean: Mean AGB, bias taken away, Mg/ha.
        lower: Lower end of the mean's interval, Mg/ha.
        upper: Upper end.
        standard_error: Of the mean, Mg/ha.
        half_width_90: Half of the width of the mean's 90 % interval, Mg/ha.
        target_mean: Mean of the labels, Mg/ha, or None.
    """

    chips: int
    area_ha: float
    mean: float
    lower: float
    upper: float
    standard_error: float
    half_width_90: float
    target_mean: float | None = None

    def to_dict(self, carbon_fraction: float) -> dict[str, Any]:
        """Ready for JSON: totals in Mg of biomass and of carbon, and the field's thresholds."""
        ends = {"": self.mean, "_lower": self.lower, "_upper": self.upper}
        biomass = {f"biomass_mg{end}": value * self.area_ha for end, value in ends.items()}
        carbon = {
            f"carbon_mg{end}": value * self.area_ha * carbon_fraction for end, value in ends.items()
        }
        target = None if self.target_mean is None else self.target_mean * self.area_ha
        relative = self.standard_error / self.mean if self.mean else None
        half = self.half_width_90 / self.mean if self.mean else None
        return {
            "chips": self.chips,
            "area_ha": self.area_ha,
            **biomass,
            **carbon,
            "label_biomass_mg": target,
            "label_carbon_mg": None if target is None else target * carbon_fraction,
            "carbon_fraction": carbon_fraction,
            "mean_agb_mg_per_ha": self.mean,
            "standard_error_mg_per_ha": self.standard_error,
            "relative_standard_error": relative,
            "relative_half_width_90": half,
            "art_trees_deduction": None if half is None else _DEDUCTION * half,
        }


def total_of_set(
    predicted: NDArray[np.float64],
    area_ha: float,
    chip_errors: NDArray[np.float64],
    options: UncertaintyOptions,
    target_mean: float | None = None,
) -> SetTotal:
    """Total of chips of one size, with an interval from whole chips drawn anew.

    Twice by chance: which chips there were to calibrate on (that bias is common to all chips of
    the set), then the error of each chip of the set (Efron & Tibshirani 1993, "An introduction
    to the bootstrap", chapters 8 and 13).

    Args:
        predicted: float64 [N], mean AGB of each chip of the set, bias taken away, Mg/ha.
        area_ha: Of the set.
        chip_errors: float64 [n], prediction − target of held-out chips' means, Mg/ha, bias taken
            away.
        options: Level, times, seed.
        target_mean: Mean of the set's labels, Mg/ha, if there are any.
    """
    generator = np.random.default_rng([options.seed, len(predicted), len(chip_errors)])
    mean = float(predicted.mean())
    drawn = np.empty(options.resamples)
    for turn in range(options.resamples):
        known = generator.choice(chip_errors, len(chip_errors))
        drawn[turn] = mean - generator.choice(known, len(predicted)).mean()
    lower, upper = np.quantile(drawn, [(1 - options.level) / 2, (1 + options.level) / 2])
    ninety = np.quantile(drawn, [0.5 - _HALF_WIDTH_LEVEL / 2, 0.5 + _HALF_WIDTH_LEVEL / 2])
    return SetTotal(
        chips=len(predicted),
        area_ha=area_ha,
        mean=mean,
        lower=max(0.0, float(lower)),
        upper=float(upper),
        standard_error=float(drawn.std(ddof=1)) if options.resamples > 1 else 0.0,
        half_width_90=float(ninety[1] - ninety[0]) / 2,
        target_mean=target_mean,
    )


def chip_totals(
    predictions: Mapping[str, NDArray[np.float32]],
    intervals: IntervalModel,
    errors: ErrorModel,
    carbon_fraction: float,
    known_means: Mapping[str, float] | None = None,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Biomass and carbon of each chip, one chip in memory at a time.

    Args:
        predictions: AGB by chip id, float32 [H, W], Mg/ha.
        intervals: Whose chip-mean interval is used, moved by the bias that is taken away.
        errors: Whose bias is taken away.
        carbon_fraction: Mg of carbon in a Mg of biomass.
        known_means: Mean AGB without bias by chip id, Mg/ha, where it was worked out already.
        progress: Show a bar on stderr.

    Returns:
        chip_id, area_ha, mean_agb_mg_per_ha, standard_error_mg_per_ha, and biomass_mg and
        carbon_mg with ``_lower`` and ``_upper``.
    """
    rows = []
    for chip_id in tracked(predictions, "adding up carbon", shown=progress):
        agb_HW = predictions[chip_id]
        known = (known_means or {}).get(chip_id)
        mean = max(0.0, float(errors.corrected(agb_HW).mean()) if known is None else known)
        raw = agb_HW.mean(dtype=np.float64)
        half = float(intervals.mean_bounds(np.array(raw))[1] - raw)
        area = agb_HW.size * PIXEL_HA
        ends = {"": mean, "_lower": max(0.0, mean - half), "_upper": mean + half}
        row: dict[str, Any] = {"chip_id": chip_id, "area_ha": area, "mean_agb_mg_per_ha": mean}
        row["standard_error_mg_per_ha"] = half / NormalDist().inv_cdf(0.5 + intervals.level / 2)
        row |= {f"biomass_mg{end}": value * area for end, value in ends.items()}
        row |= {f"carbon_mg{end}": value * area * carbon_fraction for end, value in ends.items()}
        rows.append(row)
    return pd.DataFrame(rows)
