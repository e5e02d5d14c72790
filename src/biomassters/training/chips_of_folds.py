"""Which chips of a store train and which validate."""

import numpy as np
import pandas as pd

from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError


def chips_of_folds(
    split: StoreSplit, folds: pd.DataFrame, held_out_fold: int | None
) -> tuple[list[int], list[int]]:
    """Divide the chips of a split.

    Args:
        split: Of the chip store.
        folds: Columns ``chip_id`` and ``fold``; chips of the split that it doesn't list are
            used for nothing.
        held_out_fold: The fold that validates; None for none.

    Returns:
        Indices into the split: training chips, validation chips.

    Raises:
        BadInputError: There is no such fold, or the store lacks a chip of the folds.
    """
    known = {chip_id: index for index, chip_id in enumerate(split.chip_ids)}
    missing = sorted(set(folds["chip_id"]) - known.keys())
    if missing:
        raise BadInputError(
            f"The folds list {len(missing)} chips that the chip store lacks (the first is "
            f"{missing[0]}): run the pipeline data_engineering again to bring both up to date."
        )
    numbers = np.sort(folds["fold"].unique()).tolist()
    if held_out_fold is not None and held_out_fold not in numbers:
        raise BadInputError(
            f"training.folds names {held_out_fold}, but the folds are {numbers}: choose among "
            "them, or [] to train on all."
        )
    held_out = folds["fold"] == held_out_fold if held_out_fold is not None else folds["fold"] < 0
    training, validation = (
        sorted(known[chip_id] for chip_id in folds.loc[mask, "chip_id"])
        for mask in (~held_out, held_out)
    )
    return training, validation
