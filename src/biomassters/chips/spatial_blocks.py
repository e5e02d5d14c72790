"""Blocks of land whose chips stay together, and the buffer that keeps the folds of blocks apart.

Neighbouring chips look alike and err alike. Folds of random chips put one into training and the
next into validation, and the score then says how well a network fills gaps between its own training
chips (Ploton et al. 2020, Nature Communications 11, 4540). Blocks with a buffer hold out land that
it never saw (Roberts et al. 2017, Ecography 40: 913-929). ``folds`` makes them.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from biomassters.chips.bands import PIXEL_SIZE_M
from biomassters.errors import BadInputError

_SAME_M = 1e-3  # closer than this, two edges are one


def chip_places(table: pd.DataFrame) -> NDArray[np.float64]:
    """Where chips lie: float64 [N, 4], west, south, east, north in metres on one plane.

    The plane is the first chip's coordinate system, in which a pixel is taken for 10 m, as
    everywhere: so feet, or Web Mercator, do no harm. Chips in others are moved there.

    Args:
        table: ``crs``, ``transform``, ``height`` and ``width`` of each chip.
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
    """Refuse land with fewer blocks than folds.

    Raises:
        BadInputError: With a side that gives enough.
    """
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
