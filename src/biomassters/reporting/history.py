"""What a training history shows as curves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class _Series:
    column: str
    name: str
    held_out: bool
    dash: str


_SERIES = (
    _Series("train_loss", "training loss", False, "dash"),
    _Series("validation_rmse_per_chip_mean", "held-out RMSE", True, "solid"),
    _Series("validation_rmse_masked_per_chip_mean", "held-out RMSE, target < 400", True, "dot"),
)


@dataclass(frozen=True, eq=False)
class Curve:
    """One quantity over the epochs.

    Attributes:
        name: For people.
        held_out: Whether it was measured on held-out chips.
        dash: ``"solid"``, ``"dash"`` or ``"dot"``.
        epochs: float64 [E], counted from 1.
        values: float64 [E], Mg/ha.
    """

    name: str
    held_out: bool
    dash: str
    epochs: NDArray[np.float64]
    values: NDArray[np.float64]


def curves_of(history: pd.DataFrame) -> list[Curve]:
    """Losses and RMSEs of a training history.

    Args:
        history: One row an epoch: ``epoch``, counted from 1, ``train_loss``,
            ``validation_rmse_per_chip_mean`` and ``validation_rmse_masked_per_chip_mean`` in
            Mg/ha, NaN where they were not measured. Other columns are left alone.

    Returns:
        The training loss first; only what was measured at least once.
    """
    curves = []
    for series in _SERIES:
        if series.column not in history:
            continue
        # With a network for each of several folds, the mean of those that got so far.
        measured = history.groupby("epoch")[series.column].mean().dropna()
        if len(measured):
            curves.append(
                Curve(
                    series.name,
                    series.held_out,
                    series.dash,
                    measured.index.to_numpy(np.float64),
                    measured.to_numpy(np.float64),
                )
            )
    return curves


def best_and_last(history: pd.DataFrame) -> tuple[float, float] | None:
    """RMSE of the best and of the last validation, Mg/ha, as means over the held-out folds.

    Args:
        history: A row an epoch and network, with ``held_out_fold``.

    Returns:
        None where nothing was validated.
    """
    if "validation_rmse_per_chip_mean" not in history:  # weights that were trained elsewhere
        return None
    validated = history.dropna(subset=["validation_rmse_per_chip_mean"])
    if validated.empty:
        return None
    by_fold = validated.groupby("held_out_fold")["validation_rmse_per_chip_mean"]
    return float(by_fold.min().mean()), float(by_fold.last().mean())
