"""One year's weather, month by month: what freezes, snows, melts, greens and falls.

Temperatures are rounded climate means of central Finland. The logistic thresholds (leaves
unfold near 8 °C of monthly mean, ground freezes near −1 °C) are chosen for plausible dates:
birch in leaf from May or June to September, snow from November to April.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Weather:
    """A year's weather at a place, arrays [12] from September to August.

    Attributes:
        temperature_c: Monthly mean.
        frost: Share of the month in which soil and trees are frozen, 0 to 1.
        snow_cover: Share of open ground under snow, 0 to 1.
        wet_snow: How much melting snow there is, 0 to 1.
        ice: Share of the lakes under snow-covered ice.
        moisture: Of soil and canopy, standard normal.
        wind: Roughness of the lakes, standard normal.
        leaves: Share of the broad-leaved trees' leaves, 0 to 1.
        green: Greenness of grass and understory, 0 to 1.
        crop_green: Growth of spring cereals, 0 to 1.
        crop_ripe: Share of them that is ripe or stubble.
        sun_height: Sine of the noon sun's elevation.
    """

    temperature_c: Monthly
    frost: Monthly
    snow_cover: Monthly
    wet_snow: Monthly
    ice: Monthly
    moisture: Monthly
    wind: Monthly
    leaves: Monthly
    green: Monthly
    crop_green: Monthly
    crop_ripe: Monthly
    sun_height: Monthly


def _logistic(x: Monthly) -> Monthly:
    return 1 / (1 + np.exp(-x))


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


def make_weather(rng: np.random.Generator) -> Weather:
    """Draws the weather of a year at a place.

    Args:
        rng: Source of the draws.
    """
    place = SOUTH_NORTH_C * rng.standard_normal() + YEAR_C * rng.standard_normal()
    temperature = MEAN_TEMPERATURE_C + place + MONTH_C * rng.standard_normal(12)
    depth = snow_depths(temperature)
    snow = 1 - np.exp(-2.5 * depth)
    leaves = np.where(np.arange(12) < 8, AUTUMN, _logistic((temperature - 8) / 1.2))
    return Weather(
        temperature_c=temperature,
        frost=_logistic(-(temperature + 1.5) / 1.2),
        snow_cover=snow,
        wet_snow=snow * _logistic((temperature + 1) / 0.8),
        ice=_logistic(-(np.minimum(temperature, np.roll(temperature, 1)) + 3) / 0.8),
        moisture=rng.standard_normal(12),
        wind=rng.standard_normal(12),
        leaves=leaves,
        green=np.clip(_logistic((temperature - 6.5) / 1.5), 0.05, 1),
        crop_green=CROP_GREEN,
        crop_ripe=CROP_RIPE,
        sun_height=sun_height(),
    )
