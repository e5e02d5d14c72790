"""Scores of groups of chips, and how much the score depends on which chips there were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class ScoreInterval:
    """Where the score would likely lie with other chips of the same kind.

    Attributes:
        lower: Mg/ha.
        upper: Mg/ha.
        level: Share of the resampled scores within.
    """

    lower: float
    upper: float
    level: float


def bootstrap_score(
    rmse: Sequence[float], level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> ScoreInterval | None:
    """Percentile interval of the mean RMSE per chip, whole chips drawn anew.

    Efron & Tibshirani (1993), "An introduction to the bootstrap", chapter 13.

    Args:
        rmse: Of each chip, Mg/ha.
        level: Of the interval.
        resamples: How often chips are drawn.
        seed: Of the draws.

    Returns:
        The interval, or None with fewer than 2 chips.
    """
    values = np.asarray(rmse, np.float64)
    if len(values) < 2:
        return None
    generator = np.random.default_rng([seed, len(values)])
    means = [generator.choice(values, len(values)).mean() for _ in range(resamples)]
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return ScoreInterval(float(lower), float(upper), level)


def scores_by(per_chip: pd.DataFrame, group_of_chip: dict[str, Any]) -> list[dict[str, Any]]:
    """Scores by any property of chips, groups in order.

    Args:
        per_chip: As ``ScoreAccumulator.per_chip`` gives it.
        group_of_chip: Group by chip id; chips without one are left out.

    Returns:
        A row a group: group, chips, rmse (mean per chip), bias and target_mean in Mg/ha.
    """
    group = per_chip["chip_id"].map(group_of_chip)
    return [
        {
            "group": name,
            "chips": len(rows),
            "rmse": float(rows["rmse"].mean()),
            "bias": float(rows["bias"].mean()),
            "target_mean": float(rows["target_mean"].mean()),
        }
        for name, rows in per_chip.assign(group=group).dropna(subset="group").groupby("group")
    ]


def s2_months_of(chip_table: pd.DataFrame) -> dict[str, Any]:
    """Number of Sentinel-2 months by chip id."""
    months = chip_table["s2_months"].map(len)
    return dict(zip(chip_table["chip_id"], months, strict=True))
