"""How good predictions are; numpy and pandas only. Begin with ``scores``."""

from biomassters.metrics.scores import (
    AGB_UNIT,
    CLASS_EDGES_MG_PER_HA,
    CLASS_NAMES,
    LABEL_LIMIT_MG_PER_HA,
    DensityHistogram,
    ScoreAccumulator,
    checked_pixels,
    labelled_pixels,
)

__all__ = [
    "AGB_UNIT",
    "CLASS_EDGES_MG_PER_HA",
    "CLASS_NAMES",
    "LABEL_LIMIT_MG_PER_HA",
    "DensityHistogram",
    "ScoreAccumulator",
    "checked_pixels",
    "labelled_pixels",
]
