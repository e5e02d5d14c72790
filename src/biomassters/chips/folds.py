"""Folds: a partition of the labelled chips for cross-validation, at random or by blocks of land.

Data engineering makes the table; the parameter ``training.folds`` chooses from it.

Neighbouring chips look alike and err alike. Folds of random chips put one into training and the
next into validation, and the score then says how well a network fills gaps between its own training
chips (Ploton et al. 2020, Nature Communications 11, 4540). Blocks with a buffer hold out land that
it never saw (Roberts et al. 2017, Ecography 40: 913-929).
"""

import logging
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pyproj import CRS, Transformer

from biomassters.chips.bands import PIXEL_SIZE_M
from biomassters.errors import BadInputError
from biomassters.options import Options

logger = logging.getLogger(__name__)

_SAME_M = 1e-3  # closer than this, two edges are one


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
    """Assigns every usable training chip of the chip table to a fold.

    The folds are fixed over all training chips that the archive lists; those that can't be used
    drop out afterwards. A chip that is missing or damaged therefore moves no other, and weights
    that never saw a fold never saw what another copy of the archive calls that fold. (Stratified
    folds go by the labels, so there a missing label does move others.) With fewer chips than folds
    each chip is a fold of its own.

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


# ---- Blocks of land whose chips stay together, and the buffer between folds of them


def chip_places(table: pd.DataFrame) -> NDArray[np.float64]:
    """Where chips lie: float64 [N, 4], west, south, east, north in metres on one plane.

    The plane is the first chip's coordinate system, in which a pixel is taken for 10 m, as
    everywhere: so feet, or Web Mercator, do no harm. Chips in others are moved there. The table has
    their ``crs``, ``transform``, ``height`` and ``width``.
    """
    first = table["transform"].iloc[0]
    unit = np.hypot([first[0], first[1]], [first[3], first[4]]) / PIXEL_SIZE_M
    places = np.empty((len(table), 4))
    target = CRS.from_user_input(table["crs"].iloc[0])
    for crs, rows in table.groupby("crs").indices.items():
        a, b, c, d, e, f = np.stack(table["transform"].iloc[rows].to_list()).T[..., None]
        sizes = table.iloc[rows][["width", "height"]].to_numpy(np.float64)
        right, bottom = sizes[:, :1] * [0, 1, 1, 0], sizes[:, 1:] * [0, 0, 1, 1]
        x, y = a * right + b * bottom + c, d * right + e * bottom + f
        if crs != table["crs"].iloc[0]:
            way = Transformer.from_crs(CRS.from_user_input(crs), target, always_xy=True)
            x, y = way.transform(x, y)
        x, y = x / unit[0], y / unit[1]
        places[rows] = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)
    return places


def make_blocks(
    places: NDArray[np.float64], side_m: float, shape: Literal["squares", "kmeans"], seed: int
) -> NDArray[np.int64]:
    """Block of each chip, from 0, by the chip's middle.

    Args:
        places: As ``chip_places`` gives them.
        side_m: Side of a square, about: the land is cut into equal parts, so that no sliver is
            left at its end. For kmeans, that of as many clusters as there are squares with chips.
        shape: ``squares``; or ``kmeans``, clusters of chips that lie close together, for land of
            no simple shape.
        seed: Of the clusters.
    """
    centres = (places[:, :2] + places[:, 2:]) / 2
    start, extent = places[:, :2].min(axis=0), np.ptp(places.reshape(-1, 2), axis=0)
    counts = np.maximum(1, np.round(extent / side_m))
    cells = np.minimum((centres - start) / extent * counts, counts - 1).astype(np.int64)
    _, blocks = np.unique(cells[:, 0] * int(counts[1]) + cells[:, 1], return_inverse=True)
    if shape == "kmeans":
        from sklearn.cluster import KMeans  # takes a second to import

        blocks = KMeans(int(blocks.max()) + 1, n_init=4, random_state=seed).fit_predict(centres)
    return blocks.astype(np.int64)


def folds_of_blocks(blocks: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Fold of each chip: whole blocks at random, the largest first, so that folds come out even."""
    sizes = np.bincount(blocks)
    order = np.random.default_rng([seed, count]).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of_block, chips = np.empty(len(sizes), np.int64), np.zeros(count, np.int64)
    for block in order:
        fold_of_block[block] = chips.argmin()
        chips[fold_of_block[block]] += sizes[block]
    return fold_of_block[blocks]


def outside_buffers(
    places: NDArray[np.float64], folds: NDArray[np.int64], buffer_m: float
) -> NDArray[np.bool_]:
    """Chips to keep, bool [N]: any two of different folds lie ``buffer_m`` apart or farther.

    Chips that overlap are never kept in different folds. Of those that are too close, the one
    that is too close to the most others goes first (the greedy vertex cover).
    """
    from scipy.spatial import KDTree  # takes half a second to import

    corners = places.reshape(-1, 2, 2)
    centres, half = corners.mean(axis=1), np.ptp(corners, axis=1) / 2
    reach = buffer_m + 2 * float(np.hypot(*half.max(axis=0)))
    pairs = KDTree(centres).query_pairs(reach, output_type="ndarray")
    pairs = pairs[folds[pairs[:, 0]] != folds[pairs[:, 1]]]
    left, right = pairs.T
    gap = np.abs(centres[left] - centres[right]) - half[left] - half[right]
    distance = np.hypot(*np.maximum(gap, 0.0).T)
    pairs = pairs[(distance < buffer_m - _SAME_M) | (gap < -_SAME_M).all(axis=1)]
    kept, close = np.ones(len(places), bool), pairs
    while len(close):
        worst = np.bincount(close.ravel()).argmax()
        kept[worst] = False
        close = close[(close != worst).all(axis=1)]
    for chip in np.flatnonzero(~kept):  # those whose neighbours all went come back
        neighbours = pairs[(pairs == chip).any(axis=1)].ravel()
        kept[chip] = not kept[neighbours[neighbours != chip]].any()
    return kept


def require_blocks(
    blocks: NDArray[np.int64], places: NDArray[np.float64], count: int, side_m: float
) -> None:
    """Refuse land with fewer blocks than folds by a BadInputError with a side that gives enough."""
    found = int(blocks.max()) + 1
    if found >= count:
        return
    width, height = np.ptp(places.reshape(-1, 2), axis=0) / 1000
    enough = (width * height / (2 * count)) ** 0.5  # about two blocks a fold
    raise BadInputError(
        f"data_engineering.folds.side_km: blocks of {side_m / 1000:g} km cut the land, {width:.1f} "
        f"x {height:.1f} km, into {found}, and {count} folds need {count} or more: choose a side "
        f"such as {enough:.2g}, or a lower data_engineering.folds.count."
    )
