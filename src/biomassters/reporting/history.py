"""What a training history shows as curves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_KINDS = ("loss", "rmse")


@dataclass(frozen=True, eq=False)
class Curve:
    """One quantity over the epochs.

    Attributes:
        name: For people.
        epochs: float64 [E], counted from 1.
        values: float64 [E], Mg/ha.
        held_out: Whether it was measured on held-out chips.
    """

    name: str
    epochs: NDArray[np.float64]
    values: NDArray[np.float64]
    held_out: bool


def curves_of(history: pd.DataFrame) -> list[Curve]:
    """Losses and RMSEs of a training history.

    Args:
        history: One row an epoch; columns whose names hold ``loss`` or ``rmse`` are curves in
            Mg/ha, NaN in epochs without a measurement. The column ``epoch`` counts from 1.

    Returns:
        Training first; none for an empty history.
    """
    epochs = history["epoch"] if "epoch" in history else pd.Series(range(1, len(history) + 1))
    curves = []
    for column in history.columns:
        if not any(kind in column for kind in _KINDS):
            continue
        values = pd.to_numeric(history[column], errors="coerce").to_numpy(float)
        measured = np.isfinite(values)
        if measured.any():
            name = column.replace("_", " ").replace("rmse", "RMSE").capitalize()
            name = name.replace("rmse", "RMSE")
            held_out = not column.startswith("train")
            curves.append(Curve(name, epochs.to_numpy(float)[measured], values[measured], held_out))
    return sorted(curves, key=lambda curve: curve.held_out)
