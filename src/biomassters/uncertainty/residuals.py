"""Residuals of pixels, counted so that no pixel is kept; ``intervals`` fits bounds to them.

Residuals are target − prediction: what has to be added to the map to make it true.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bins of predicted AGB, Mg/ha: narrow where forests are young and errors grow with biomass.
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
# Residuals are binned evenly in arcsinh(residual / 20): 0.1 Mg/ha wide at 0, 0.5 at 100.
_KNEE_MG_PER_HA = 20.0
_STEP = 0.005
_REACH = 1200  # bins on either side: ± 4,000 Mg/ha
BIN_EDGES = _KNEE_MG_PER_HA * np.sinh(np.arange(-_REACH, _REACH + 1) * _STEP)


@dataclass(eq=False)
class ResidualCounts:
    """Pixels by class of the target, predicted AGB and residual; sums merge with ``+``.

    A residual is known to the width of its bin: 0.1 Mg/ha near 0, a two-hundredth of its size
    far away.

    Attributes:
        class_edges: Upper ends of all classes of the target but the last, Mg/ha.
        edges: float64 [B + 1], of the bins of predicted AGB, Mg/ha; a lower end belongs to its
            bin, and the outermost ones are infinite.
        counts: int64 [classes, B, residuals].
        predicted: float64 [B], sum of the predicted AGB.
    """

    class_edges: Sequence[float]
    edges: NDArray[np.float64] = field(default_factory=lambda: CELL_EDGES)
    counts: NDArray[np.int64] = field(init=False)
    predicted: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        bins = len(self.edges) - 1
        self.counts = np.zeros((len(self.class_edges) + 1, bins, len(BIN_EDGES) - 1), np.int64)
        self.predicted = np.zeros(bins)

    def update(self, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Take in some pixels, real and finite, both of one shape, Mg/ha."""
        predicted = np.asarray(prediction, np.float64).ravel()
        truth = np.asarray(target, np.float64).ravel()
        classes = np.searchsorted(self.class_edges, truth, side="left")
        bins = np.searchsorted(self.edges[1:-1], predicted, side="right")
        position = np.arcsinh((truth - predicted) / _KNEE_MG_PER_HA) / _STEP
        residuals = np.clip(np.floor(position).astype(np.int64) + _REACH, 0, 2 * _REACH - 1)
        flat = np.ravel_multi_index((classes, bins, residuals), self.counts.shape)
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)
        self.predicted += np.bincount(bins, predicted, len(self.predicted))

    def __add__(self, other: "ResidualCounts") -> "ResidualCounts":
        total = ResidualCounts(self.class_edges, self.edges)
        total.counts = self.counts + other.counts
        total.predicted = self.predicted + other.predicted
        return total

    @property
    def pixels(self) -> NDArray[np.int64]:
        """int64 [B]."""
        pixels: NDArray[np.int64] = self.counts.sum(axis=(0, 2))
        return pixels

    @property
    def mean_predicted(self) -> NDArray[np.float64]:
        """Mean predicted AGB by bin, float64 [B], Mg/ha."""
        return self.predicted / np.maximum(1, self.pixels)

    def joined(self, minimum_pixels: int) -> "ResidualCounts":
        """Neighbouring bins joined until each holds ``minimum_pixels``, as far as there are.

        Mondrian bins: conformal prediction within categories that the prediction falls into keeps
        its coverage in each of them (Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a
        Random World", section 4.5).
        """
        first, held = [0], 0
        for row, pixels in enumerate(self.pixels.tolist()):
            if held >= minimum_pixels:
                first.append(row)
                held = 0
            held += pixels
        if held < minimum_pixels and len(first) > 1:
            first.pop()
        joined = ResidualCounts(self.class_edges, np.append(self.edges[first], self.edges[-1]))
        joined.counts = np.add.reduceat(self.counts, first, axis=1)
        joined.predicted = np.add.reduceat(self.predicted, first)
        return joined
