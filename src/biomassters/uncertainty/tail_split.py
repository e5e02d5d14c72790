"""How each Mondrian bin divides its misses between the two ends of its interval.

Any division keeps the coverage of the bin, so it is free to serve two ends: intervals as narrow
as possible (asymmetric ends: Romano, Patterson & Candès 2019, "Conformalized quantile
regression", section 3.3), and no class of the *target* that is covered far worse than the others.
Predictions pull towards the mean, so intervals with even tails miss most of the tallest forest.
"""

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.mondrian import Candidates

_ROUNDS = 200
_FIRST_STEP = 400.0  # Mg/ha of width that a class's whole coverage is worth


def choose_splits(
    options: Candidates,
    class_pixels: NDArray[np.int64],
    level: float,
    tolerance: float,
    minimum_class_pixels: int,
) -> NDArray[np.int64]:
    """The narrowest intervals whose classes' coverage lies within a tolerance.

    Lagrange's way: every class has a price of its misses, which rises while the class is covered
    too little and falls while it is covered too much; each bin takes its cheapest split.

    Args:
        options: Intervals of each bin.
        class_pixels: int64 [classes].
        level: Coverage of every bin.
        tolerance: How far a class may be from the level.
        minimum_class_pixels: Smaller classes are not looked at.

    Returns:
        int64 [B], index of ``SPLITS``: of those tried, the narrowest that keeps to the
        tolerance, else the one that comes closest.
    """
    bins = np.arange(len(options.width))
    checked = class_pixels >= max(1, minimum_class_pixels)
    share = options.misses / np.maximum(1, class_pixels)[:, None, None]
    width = options.width / max(1, class_pixels.sum())
    prices = np.zeros((2, len(class_pixels)))  # of being covered too little, and too much
    best, best_rank = np.zeros(len(bins), np.int64), (np.inf, np.inf)
    for turn in range(_ROUNDS):
        split = (width + np.tensordot(prices[0] - prices[1], share, axes=1)).argmin(axis=1)
        excess = share[:, bins, split].sum(axis=1) - (1.0 - level)
        beyond = (np.stack([excess, -excess]) - tolerance) * checked
        rank = (max(0.0, float(beyond.max())), float(width[bins, split].sum()))
        if rank < best_rank:
            best, best_rank = split, rank
        step = _FIRST_STEP / (1 + turn) ** 0.5
        prices = np.maximum(0.0, prices + step * beyond)
    return best
