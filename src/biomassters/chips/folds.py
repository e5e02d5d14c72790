"""Folds: a partition of the labelled chips for cross-validation, at random or by blocks of land.

Data engineering makes the table; the parameter ``training.folds`` chooses from it.
"""

import logging
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from biomassters.chips.spatial_blocks import (
    chip_places,
    folds_of_blocks,
    make_blocks,
    outside_buffers,
    require_blocks,
)
from biomassters.errors import BadInputError
from biomassters.options import Options

logger = logging.getLogger(__name__)


class FoldOptions(Options):
    """How the labelled chips are partitioned."""

    count: int = Field(5, ge=2, description="Number of folds; the reference has 10")
    method: Literal["reference", "stratified", "blocks"] = Field(
        "reference",
        description="reference: scikit-learn's shuffled KFold over the sorted chip names; "
        "stratified: every fold has the same range of mean biomass; blocks: of land, for chips "
        "that say where they lie",
    )
    seed: int = Field(314159, ge=0, lt=2**32, description="Seed; the reference has 314159")
    side_km: float = Field(
        10.0, gt=0, description="Side of a block, about: the land is cut into equal parts"
    )
    buffer_km: float = Field(
        0.5,
        ge=0,
        description="Distance that chips of different folds keep; those between are in no fold, "
        "and used for nothing. Let it be larger than errors are correlated",
    )
    shape: Literal["squares", "kmeans"] = Field(
        "squares", description="Of blocks; kmeans: clusters, for land of no simple shape"
    )


def make_folds(table: pd.DataFrame, options: FoldOptions) -> pd.DataFrame:
    """Assigns every usable training chip to a fold.

    The folds are fixed over all training chips that the archive lists; those that can't be used
    drop out afterwards. A chip that is missing or damaged therefore moves no other, and weights
    that never saw a fold never saw what another copy of the archive calls that fold. (Stratified
    folds go by the labels, so there a missing label does move others.) With fewer chips than folds
    each chip is a fold of its own.

    Args:
        table: The chip table; usable chips of its training split have labels.
        options: How to partition.

    Returns:
        Columns chip_id (sorted) and fold (from 0; one whose chips all dropped out is not there),
        and of blocks of land ``block``.

    Raises:
        BadInputError: Blocks of chips that don't say where they lie, fewer of them than folds, or
            a buffer that leaves a fold without chips.
    """
    listed = table[table["split"] == "train"].sort_values("chip_id", ignore_index=True)
    if options.method == "blocks":
        return _of_blocks(listed, options)
    if options.method == "stratified":
        listed = listed.dropna(subset="agb_mean_mg_per_ha")
    chips = len(listed)
    if chips < options.count:
        logger.warning(
            "Fewer labelled chips (%d) than folds (%d): each is a fold of its own.",
            chips,
            options.count,
        )
    if chips <= options.count:
        fold = np.arange(chips)
    elif options.method == "stratified":
        agb_mg_per_ha = listed["agb_mean_mg_per_ha"].to_numpy()
        fold = _stratified(agb_mg_per_ha, options.count, options.seed)
    else:
        fold = _reference(chips, options.count, options.seed)
    folds = listed.assign(fold=fold).loc[listed["usable"].astype(bool), ["chip_id", "fold"]]
    return folds.reset_index(drop=True)


def _of_blocks(listed: pd.DataFrame, options: FoldOptions) -> pd.DataFrame:
    """Fold and block of each chip that no buffer takes."""
    located = listed.get("crs", pd.Series("", listed.index)) != ""
    lost = listed.loc[listed["usable"].astype(bool) & ~located, "chip_id"]
    if len(lost):
        raise BadInputError(
            f"data_engineering.folds.method is blocks, but chip {lost.iloc[0]} doesn't say where "
            f"it lies ({len(lost)} of {len(listed)} chips): use the method reference or stratified."
        )
    listed = listed[located].reset_index(drop=True)
    places, side_m, buffer_m = chip_places(listed), options.side_km * 1000, options.buffer_km * 1000
    blocks = make_blocks(places, side_m, options.shape, options.seed)
    require_blocks(blocks, places, options.count, side_m)
    fold = folds_of_blocks(blocks, options.count, options.seed)
    kept = outside_buffers(places, fold, buffer_m)
    empty = sorted(set(range(options.count)) - set(fold[kept].tolist()))
    if empty:
        raise BadInputError(
            f"data_engineering.folds.buffer_km: {options.buffer_km:g} km leave no chip in fold "
            f"{empty[0]}: lower it, or choose larger blocks (side_km) or fewer folds (count)."
        )
    logger.info(
        "%d blocks of land in %d folds; %d of %d chips lie in the buffers between folds.",
        blocks.max() + 1, options.count, (~kept).sum(), len(kept),
    )  # fmt: skip
    kept &= listed["usable"].to_numpy(bool)
    folds = listed.assign(fold=fold, block=blocks).loc[kept, ["chip_id", "fold", "block"]]
    return folds.reset_index(drop=True)


def blocks_of(folds: pd.DataFrame) -> dict[str, int]:
    """Block of land by chip id; empty where folds are not made of blocks."""
    if "block" not in folds:
        return {}
    return dict(zip(folds["chip_id"], folds["block"].tolist(), strict=True))


def _reference(chips: int, count: int, seed: int) -> NDArray[np.int64]:
    """The first place's folds: ``KFold(count, shuffle=True, random_state=seed)``."""
    from sklearn.model_selection import KFold  # takes a second to import

    fold = np.empty(chips, np.int64)
    splitter = KFold(count, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(fold)):
        fold[held_out] = number
    return fold


def _stratified(agb_mg_per_ha: NDArray[np.float64], count: int, seed: int) -> NDArray[np.int64]:
    """Of every ``count`` chips next to each other in biomass, one goes to each fold."""
    random = np.random.default_rng(np.random.SeedSequence([seed, count]))
    strata = -(-len(agb_mg_per_ha) // count)
    folds_by_rank = np.concatenate([random.permutation(count) for _ in range(strata)])
    fold = np.empty(len(agb_mg_per_ha), np.int64)
    fold[np.argsort(agb_mg_per_ha, kind="stable")] = folds_by_rank[: len(fold)]
    return fold
