"""How good predictions are: scores per chip, pooled and by biomass class; numpy only.

Everything is accumulated chip by chip, so the pixels of a data set are never in memory together.
"""

from biomassters.metrics.classes import (
    AGB_UNIT,
    CLASS_EDGES_MG_PER_HA,
    CLASS_NAMES,
    LABEL_LIMIT_MG_PER_HA,
)
from biomassters.metrics.density import DensityHistogram
from biomassters.metrics.scores import ScoreAccumulator

__all__ = [
    "AGB_UNIT",
    "CLASS_EDGES_MG_PER_HA",
    "CLASS_NAMES",
    "LABEL_LIMIT_MG_PER_HA",
    "DensityHistogram",
    "ScoreAccumulator",
]
