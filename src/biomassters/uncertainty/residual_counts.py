"""Residuals counted by predicted AGB and class of the target, so that no pixel is kept.

Residuals are target − prediction: what has to be added to the map to make it true.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Cells of predicted AGB, Mg/ha: narrow where forests are young and errors grow with biomass.
CELL_EDGES = np.concatenate(
    [
        [-np.inf, 1, 2, 3, 4, 6, 8],
        np.arange(10, 40, 2.5),
        np.arange(40, 70, 5),
        np.arange(70, 200, 10),
        np.arange(200, 500, 20),
        [np.inf],
    ]
)
# Bins of residuals are evenly spaced in arcsinh(residual / 20): 0.1 Mg/ha wide at 0, 0.5 at 100.
_KNEE_MG_PER_HA = 20.0
_STEP = 0.005
_REACH = 1200  # bins on either side: ± 4,000 Mg/ha
BIN_EDGES = _KNEE_MG_PER_HA * np.sinh(np.arange(-_REACH, _REACH + 1) * _STEP)


@dataclass
class ResidualCounts:
    """Pixels by class of the target, predicted AGB and residual; sums merge with ``+``.

    A residual is known to the width of its bin: 0.1 Mg/ha near 0, a two-hundredth of its size
    far away.

    Attributes:
        class_edges: Upper ends of all classes of the target but the last, Mg/ha.
        spread_floor: Residuals are divided by ``1 + spread / spread_floor``; None: by 1.
        counts: int64 [classes, cells, bins].
        predicted: float64 [cells], sum of the predicted AGB.
        scale: float64 [cells], sum of what residuals were divided by.
    """

    class_edges: Sequence[float]
    spread_floor: float | None = None
    counts: NDArray[np.int64] = field(init=False)
    predicted: NDArray[np.float64] = field(init=False)
    scale: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        cells = len(CELL_EDGES) - 1
        self.counts = np.zeros((len(self.class_edges) + 1, cells, len(BIN_EDGES) - 1), np.int64)
        self.predicted = np.zeros(cells)
        self.scale = np.zeros(cells)

    def update(
        self,
        prediction: NDArray[Any],
        target: NDArray[Any],
        spread: NDArray[Any] | None = None,
    ) -> None:
        """Take in some pixels, real and finite, all of one shape, Mg/ha.

        Args:
            prediction: AGB.
            target: AGB.
            spread: Standard deviation over the test-time views; needed with a spread floor.
        """
        predicted = np.asarray(prediction, np.float64).ravel()
        truth = np.asarray(target, np.float64).ravel()
        scale = residual_scale(spread, self.spread_floor, predicted.shape)
        cells = cell_of(predicted)
        classes = np.searchsorted(self.class_edges, truth, side="left")
        position = np.arcsinh((truth - predicted) / scale / _KNEE_MG_PER_HA) / _STEP
        bins = np.clip(np.floor(position).astype(np.int64) + _REACH, 0, 2 * _REACH - 1)
        flat = np.ravel_multi_index((classes, cells, bins), self.counts.shape)
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)
        count = len(self.predicted)
        self.predicted += np.bincount(cells, predicted, count)
        self.scale += np.bincount(cells, scale, count)

    def __add__(self, other: "ResidualCounts") -> "ResidualCounts":
        total = ResidualCounts(self.class_edges, self.spread_floor)
        total.counts = self.counts + other.counts
        total.predicted = self.predicted + other.predicted
        total.scale = self.scale + other.scale
        return total

    @property
    def pixels(self) -> NDArray[np.int64]:
        """int64 [cells]."""
        pixels: NDArray[np.int64] = self.counts.sum(axis=(0, 2))
        return pixels


def cell_of(prediction: NDArray[Any]) -> NDArray[np.int64]:
    """Cell of each predicted AGB; a cell's lower end belongs to it."""
    return np.searchsorted(CELL_EDGES[1:-1], prediction, side="right")


def residual_scale(
    spread: NDArray[Any] | None, spread_floor: float | None, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """What residuals are divided by: 1 where all views agree, more where they don't."""
    if spread_floor is None:
        return np.ones(shape)
    assert spread is not None, "intervals that use the views' spread need it"
    return 1.0 + np.asarray(spread, np.float64).reshape(shape) / spread_floor
