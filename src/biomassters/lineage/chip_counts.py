"""How many chips a dataset holds, so that one that silently shrinks is seen."""

from typing import Any

import pandas as pd

from biomassters.chips.archive.archive import Archive
from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.chip_store import Packing
from biomassters.datasets.predictions import Predictions, Submission
from biomassters.simulation.simulated_chips import SimulatedChips

_READ_BACK = (Packing, Predictions, SimulatedChips)


def is_made_while_saved(data: Any) -> bool:
    """Whether chips are made while they are written, so that they are counted afterwards."""
    # By its name: the module of chips of a region imports rasterio, which takes long.
    return isinstance(data, _READ_BACK) or type(data).__name__ == "RegionChips"


def count_chips(data: Any) -> int | None:
    """Chips in a dataset, or None where it isn't made of chips."""
    if isinstance(data, pd.DataFrame):
        return int(data["chip_id"].nunique()) if "chip_id" in data else None
    if isinstance(data, Archive):
        return len(data.chip_ids())
    if isinstance(data, ChipStore):
        return sum(len(data.split(name).chip_ids) for name in data.splits)
    if isinstance(data, PredictionFolder):
        return len(data)
    return len(data.chip_ids) if isinstance(data, Submission) else None


def fingerprint_of(data: Any) -> str | None:
    """What names the content of a dataset, where it knows it."""
    if isinstance(data, PredictionFolder):
        return data.weights_fingerprint
    found = getattr(data, "fingerprint", None)
    return found if isinstance(found, str) else None
