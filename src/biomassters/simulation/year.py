"""What a year brings to a place: its weather, month by month, and which images exist.

Both are drawn from a generator, not from the place, and hold for all pixels of a chip or a region.
``radar`` and ``optical`` turn them and a landscape into images.

Temperatures are rounded climate means of central Finland. The logistic thresholds (leaves unfold
near 8 °C of monthly mean, ground freezes near −1 °C) are chosen for plausible dates: birch in leaf
from May or June to September, snow from November to April.

The months with a Sentinel-2 image fall into six patterns. They and their frequencies are counted in
the metadata of the real archive (8,689 train and 2,773 test chips); Sentinel-1 has an image for
every month of every chip there, but an orbit may hold no data for months.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import S2, SENSORS
from biomassters.simulation.random_fields import Window
from biomassters.simulation.sites import NEUTRAL, Site

Monthly = NDArray[np.float64]  # [12], September to August

MEAN_TEMPERATURE_C = np.array([9, 4, -1, -5, -7.5, -8, -3, 3.5, 9.5, 14, 16.5, 14.5])
SOUTH_NORTH_C = 2.0  # standard deviation between places
YEAR_C = 1.0  # of a year
MONTH_C = 1.3  # of a month
LATITUDE_DEG = 62.0
# Declination of the sun in the middle of each month, from any almanac.
SUN_DECLINATION_DEG = np.array(
    [2.2, -9.6, -19.1, -23.3, -21.3, -13.0, -2.0, 9.7, 18.8, 23.3, 21.5, 13.8]
)
SNOWFALL_PER_MONTH = 1.0  # units of snow depth in a cold month
MELT_PER_DEGREE = 0.6
AUTUMN = np.array([0.75, 0.15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])  # leaves left on the birches
# A spring cereal: sown in May, green from June, ripe in August.
CROP_GREEN = np.array([0.2, 0.25, 0.2, 0.15, 0.1, 0.1, 0.1, 0.1, 0.15, 0.75, 0.95, 0.3])
CROP_RIPE = np.array([0.3, 0.1, 0, 0, 0, 0, 0, 0, 0, 0, 0.05, 0.65])

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
class Weather:
    """A year's weather at a place, arrays [12] from September to August."""

    temperature_c: Monthly  # monthly mean
    frost: Monthly  # share of the month in which soil and trees are frozen, 0 to 1
    snow_cover: Monthly  # share of open ground under snow, 0 to 1
    wet_snow: Monthly  # how much melting snow there is, 0 to 1
    ice: Monthly  # share of the lakes under snow-covered ice
    moisture: Monthly  # of soil and canopy, standard normal
    wind: Monthly  # roughness of the lakes, standard normal
    leaves: Monthly  # share of the broad-leaved trees' leaves, 0 to 1
    green: Monthly  # greenness of grass and understory, 0 to 1
    crop_green: Monthly  # growth of spring cereals, 0 to 1
    crop_ripe: Monthly  # share of them that is ripe or stubble
    sun_height: Monthly  # sine of the noon sun's elevation


def make_weather(rng: np.random.Generator, site: Site = NEUTRAL) -> Weather:
    """Draws the weather of a year at a place."""
    place = SOUTH_NORTH_C * rng.standard_normal() + YEAR_C * rng.standard_normal()
    temperature = MEAN_TEMPERATURE_C + place + MONTH_C * rng.standard_normal(12)
    temperature = temperature + site.temperature_c
    snow = 1 - np.exp(-2.5 * snow_depths(temperature))
    unfolded = _logistic((temperature - 8 - site.leaf_shift_c) / 1.2)
    leaves = np.where(np.arange(12) < 8, AUTUMN, unfolded)
    return Weather(
        temperature_c=temperature,
        frost=_logistic(-(temperature + 1.5) / 1.2),
        snow_cover=snow,
        wet_snow=snow * _logistic((temperature + 1) / 0.8),
        ice=_logistic(-(np.minimum(temperature, np.roll(temperature, 1)) + 3) / 0.8),
        moisture=rng.standard_normal(12) + site.moisture,
        wind=rng.standard_normal(12),
        leaves=leaves,
        green=np.clip(_logistic((temperature - 6.5 - site.green_shift_c) / 1.5), 0.05, 1),
        crop_green=CROP_GREEN,
        crop_ripe=CROP_RIPE,
        sun_height=sun_height(),
    )


def snow_depths(temperature_c: Monthly) -> Monthly:
    """Relative snow depth of each month, falling in the cold and melting in the warmth.

    A degree-day balance (Martinec 1960's method, by month); bare ground in September.
    """
    depth, depths = 0.0, []
    for month_c in temperature_c:
        fall = SNOWFALL_PER_MONTH / (1 + np.exp(1.2 * (month_c + 0.5)))
        melt = MELT_PER_DEGREE * max(0.0, month_c + 1.5)
        depth = max(0.0, depth + fall - melt)
        depths.append(depth)
    return np.array(depths)


def sun_height() -> Monthly:
    """Sine of the sun's elevation at noon, [12]."""
    return np.sin(np.radians(90 - LATITUDE_DEG + SUN_DECLINATION_DEG))


def _logistic(x: Monthly) -> Monthly:
    return 1 / (1 + np.exp(-x))


@dataclass(frozen=True)
class SwathEdge:
    """The border of a Sentinel-2 image: beyond it a month has no data."""

    share: float  # share of the window's width that lies within the image, along its middle
    slope: float  # columns that the border moves in each row
    from_left: bool  # whether the image lies to the left of the border

    def seen(self, height: int, width: int) -> NDArray[np.bool_]:
        """Tells where the image has data, [H, W]."""
        rows = np.arange(height)[:, None] - height / 2
        columns = np.arange(width)[None, :]
        border = self.share * width if self.from_left else (1 - self.share) * width
        return (columns < border + self.slope * rows) == self.from_left

    def within(self, size: tuple[int, int], window: Window) -> "SwathEdge":
        """The same border of an image of this height and width, seen from a window of it."""
        height, width = size
        share = self.share if self.from_left else 1 - self.share
        middle = window.top + (window.height - height) / 2
        inside = (share * width + self.slope * middle - window.left) / window.width
        return replace(self, share=inside if self.from_left else 1 - inside)


@dataclass(frozen=True)
class Availability:
    """What exists of a year of images."""

    # bool [12, 2], whether the ascending and the descending orbit have data.
    s1_orbits: NDArray[np.bool_]
    s2: NDArray[np.bool_]  # bool [12], whether there is a Sentinel-2 image
    # Border of a month's Sentinel-2 image, by month, where it has one.
    swath_edges: dict[int, SwathEdge]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Bool [12, sensors]: which images exist; only Sentinel-2 misses months."""
        every = np.ones(12, bool)
        return np.stack([self.s2 if sensor is S2 else every for sensor in SENSORS], axis=1)


def everything() -> Availability:
    """A year without any gap."""
    return Availability(np.ones((12, 2), bool), np.ones(12, bool), {})


def make_availability(rng: np.random.Generator, split: str) -> Availability:
    """Draws what exists; ``split`` is train or test, whose patterns of months differ."""
    patterns = list(S2_MONTH_PATTERNS)
    column = ("train", "test").index(split)
    counts = np.array([S2_MONTH_PATTERNS[pattern][column] for pattern in patterns], float)
    pattern = patterns[rng.choice(len(patterns), p=counts / counts.sum())]
    s2 = np.array([letter == "1" for letter in pattern])
    orbits = _orbits(rng)
    months = np.flatnonzero(s2 & (rng.random(12) < SWATH_EDGE_CHANCE))
    return Availability(orbits, s2, {int(month): _swath_edge(rng) for month in months})


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
