"""Which images exist, and which orbits have data.

The months with a Sentinel-2 image fall into six patterns. They and their frequencies are
counted in the metadata of the real archive (8,689 train and 2,773 test chips); Sentinel-1
has an image for every month of every chip there, but an orbit may hold no data for months.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biomassters.simulation.noise import Window

# Months with a Sentinel-2 image, September to August → chips in train, chips in test.
S2_MONTH_PATTERNS = {
    "111011111111": (3991, 1577),
    "000000111111": (1311, 0),
    "111111111111": (1251, 539),
    "111001111111": (879, 344),
    "110001111111": (739, 313),
    "000000011111": (518, 0),
}
# The real chip 000aa810 lacks its descending orbit from November to April, 001b0634 lacks
# nothing in its one image. How often that happens isn't published; these are guesses.
ORBIT_GAP_CHANCE = (0.08, 0.4)  # ascending, descending
ORBIT_GAP_MONTHS = (2, 8)  # first month of the longest gap and the month after it
SHORT_GAP_CHANCE = 0.5
# One of 000aa810's six Sentinel-2 images is 99.8 % empty.
SWATH_EDGE_CHANCE = 0.05
SWATH_HEADING_DEG = 14.0  # of the orbit against north in Finland


@dataclass(frozen=True)
class SwathEdge:
    """The border of a Sentinel-2 image: beyond it a month has no data.

    Attributes:
        share: Share of the window's width that lies within the image, along its middle.
        slope: Columns that the border moves in each row.
        from_left: Whether the image lies to the left of the border.
    """

    share: float
    slope: float
    from_left: bool

    def seen(self, height: int, width: int) -> NDArray[np.bool_]:
        """Tells where the image has data, [H, W]."""
        rows = np.arange(height)[:, None] - height / 2
        columns = np.arange(width)[None, :]
        border = self.share * width if self.from_left else (1 - self.share) * width
        return (columns < border + self.slope * rows) == self.from_left

    def within(self, size: tuple[int, int], window: Window) -> "SwathEdge":
        """The same border, seen from a window of the image.

        Args:
            size: Height and width of the whole image.
            window: A part of it, from its upper left corner.
        """
        height, width = size
        share = self.share if self.from_left else 1 - self.share
        middle = window.top + (window.height - height) / 2
        inside = (share * width + self.slope * middle - window.left) / window.width
        return replace(self, share=inside if self.from_left else 1 - inside)


@dataclass(frozen=True)
class Availability:
    """What exists of a year of images.

    Attributes:
        s1_orbits: bool [12, 2], whether the ascending and the descending orbit have data.
        s2: bool [12], whether there is a Sentinel-2 image.
        swath_edges: Border of a month's Sentinel-2 image, by month, where it has one.
    """

    s1_orbits: NDArray[np.bool_]
    s2: NDArray[np.bool_]
    swath_edges: dict[int, SwathEdge]


def _orbits(rng: np.random.Generator) -> NDArray[np.bool_]:
    orbits = np.ones((12, 2), bool)
    orbit = 1 if rng.random() < ORBIT_GAP_CHANCE[1] else 0
    if orbit == 1 or rng.random() < ORBIT_GAP_CHANCE[0]:
        first, end = ORBIT_GAP_MONTHS
        if rng.random() < SHORT_GAP_CHANCE:
            first, end = sorted(rng.choice(np.arange(first, end + 1), 2, replace=False))
        orbits[first:end, orbit] = False
    return orbits


def _swath_edge(rng: np.random.Generator) -> SwathEdge:
    share = float(rng.beta(0.6, 0.6))
    slope = float(np.tan(np.radians(SWATH_HEADING_DEG)))
    return SwathEdge(share, slope, bool(rng.random() < 0.5))


def everything() -> Availability:
    """A year without any gap."""
    return Availability(np.ones((12, 2), bool), np.ones(12, bool), {})


def make_availability(rng: np.random.Generator, split: str) -> Availability:
    """Draws what exists.

    Args:
        rng: Source of the draws.
        split: ``"train"`` or ``"test"``; the real ones differ.
    """
    patterns = list(S2_MONTH_PATTERNS)
    column = ("train", "test").index(split)
    counts = np.array([S2_MONTH_PATTERNS[pattern][column] for pattern in patterns], float)
    pattern = patterns[rng.choice(len(patterns), p=counts / counts.sum())]
    s2 = np.array([letter == "1" for letter in pattern])
    orbits = _orbits(rng)
    months = np.flatnonzero(s2 & (rng.random(12) < SWATH_EDGE_CHANCE))
    return Availability(orbits, s2, {int(month): _swath_edge(rng) for month in months})
