"""A year of Sentinel-2: a mixture of spectra, dimmed by shade, under haze and clouds."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from biomassters.chips.bands import CLP_NONE, S2
from biomassters.simulation.availability import Availability
from biomassters.simulation.clouds import draw_cover, make_clouds
from biomassters.simulation.landscape import MARGIN_PIXELS, Landscape, without_margin
from biomassters.simulation.mixture import member_shares, member_spectra, snow_shares
from biomassters.simulation.noise import Field, Window, normal, smooth
from biomassters.simulation.patches import patch_uniform
from biomassters.simulation.spectra import SPECTRA
from biomassters.simulation.weather import Weather

OPTICAL = S2.bands[:-1]
COARSE = [OPTICAL.index(name) for name in ("B5", "B6", "B7", "B8A", "B11", "B12")]  # 20 m
BLUR_PIXELS = 0.5  # neighbours' light; the point spread of the instrument
# Crowns shade themselves and the ground, the more the taller they are and the lower the sun
# (Li & Strahler 1985, IEEE Trans. Geosci. Remote Sens. 23:705, in spirit: one number here).
SHADE_HEIGHT_M = 14.0
SHADE_SUMMER, SHADE_WINTER = 0.38, 0.75
STEEPNESS = 0.35  # gradient of a slope of one standard deviation of terrain in 10 pixels
LOWEST_SUN = 0.3  # sine; below it light is diffuse and slopes matter little more
PATCHY_SNOW = 1.2  # the melt leaves patches: spread of the snow's border
# The rest is chosen to match the real chip: its texture at 10 m, its haze of a few hundred
# counts in the blue (down to reflectances of 1), its months of different brightness.
TEXTURE = 0.3
STAND_TEXTURE = 0.10
WATER_TEXTURE = 0.06  # water and snow-covered ice are even
MONTH_TEXTURE = 0.05
BAND_TEXTURE = 0.06
BRIGHTNESS = 0.09
HAZE_COUNTS = np.array([130, 95, 80, 65, 55, 50, 45, 40, 15, 10.0])
NOISE_COUNTS = 18.0
BUILT_TEXTURE = 0.45
# The real chip's clouds reach 4,700 counts in March and 8,200 in August.
CLOUD_BRIGHTNESS = np.array([0.9, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.65, 0.95, 1.0, 1.05])
CLOUD_BRIGHTNESS_SPREAD = (0.8, 1.15)
DARKEST, BRIGHTEST = 1, 19000  # 0 is no data; the archive's bands reach 15,226 to 19,616


def _snow(landscape: Landscape, window: Window, cover: float) -> Field:
    """Share of the ground under snow at each place, [H, W], about ``cover`` on average."""
    place = smooth(window, landscape.seed, "snow", grain=9, octaves=3)
    logit = np.log((cover + 1e-3) / (1 - cover + 1e-3)) * 1.6
    return 1 / (1 + np.exp(-(np.float32(logit) + np.float32(PATCHY_SNOW) * place)))


def _shade(landscape: Landscape) -> Field:
    """How much the crowns darken a pixel, 0 to 1, [H, W] with margin."""
    forest = landscape.forest
    return forest.crown_cover * (1 - np.exp(-forest.height_m / SHADE_HEIGHT_M))


def _still_texture(landscape: Landscape) -> Field:
    """What is the same in every month, logarithm of factors [10, H, W] with margin."""
    window, seed, forest = landscape.window, landscape.seed, landscape.forest
    own = normal(window, seed, "ground texture", count=11)
    stand = STAND_TEXTURE * np.sqrt(12) * (patch_uniform(forest.stand, "brightness") - 0.5)
    stand = np.where(landscape.cover.forest, stand, 0)
    strength = np.where(landscape.cover.built, BUILT_TEXTURE, TEXTURE * (0.6 + _shade(landscape)))
    strength = np.where(landscape.cover.water, WATER_TEXTURE, strength)
    return strength * own[0] + stand + BAND_TEXTURE * own[1:]


def _surface(landscape: Landscape, weather: Weather) -> tuple[Field, Field]:
    """Bare and snowy reflectance of every month, each [12, 10, H, W] without margin."""
    shares = member_shares(landscape)
    factor = np.exp(_still_texture(landscape))
    for axis in (-1, -2):
        shares = gaussian_filter1d(shares, BLUR_PIXELS, axis=axis, truncate=3)
        factor = gaussian_filter1d(factor, BLUR_PIXELS, axis=axis, truncate=3)
    rows, columns = without_margin(landscape.window)
    shares, factor = shares[:, rows, columns], factor[:, rows, columns]
    spectra = member_spectra(weather)
    hidden = snow_shares(weather)[:, :, None]
    snowy = (1 - hidden) * spectra + hidden * SPECTRA["snow"]
    flat = np.ascontiguousarray(shares.reshape(len(shares), -1))
    both = [
        (np.float32(table.transpose(0, 2, 1)).reshape(120, -1) @ flat).reshape(
            12, 10, *shares.shape[1:]
        )
        * factor
        for table in (spectra, snowy)
    ]
    return both[0], both[1]


def _shade_strength(weather: Weather) -> NDArray[np.float64]:
    """Darkening of a fully shaded pixel in each month, [12]."""
    low_sun = 1 - weather.sun_height / weather.sun_height.max()
    return SHADE_SUMMER + (SHADE_WINTER - SHADE_SUMMER) * low_sun


def _column(spectrum: NDArray[np.float64]) -> Field:
    """A spectrum [10] that goes with an image [10, H, W]."""
    return spectrum.astype(np.float32)[:, None, None]


def _illumination(landscape: Landscape, sun_height: NDArray[np.float64]) -> Field:
    """Factor on the light that falls on slopes, [12, H, W] without margin.

    Lambert's cosine for small slopes: 1 + slope towards the sun · cot(elevation), the sun
    standing in the south-south-east when Sentinel-2 passes.
    """
    towards = -0.8 * landscape.slope(axis=0) - 0.6 * landscape.slope(axis=1)
    elevation = np.maximum(sun_height, LOWEST_SUN)
    cotangent = np.sqrt(1 - elevation**2) / elevation
    factor = 1 + STEEPNESS * cotangent[:, None, None] * towards[without_margin(landscape.window)]
    return np.clip(factor, 0.4, 1.8).astype(np.float32)


def _coarsen(reflectance: Field) -> None:
    """Gives the 20 m bands of [10, H, W] one value in each 2 × 2 pixels, in place."""
    for band in COARSE:
        image = reflectance[band]
        corners = [image[row::2, column::2] for row in (0, 1) for column in (0, 1)]
        mean = np.float32(0.25) * sum(corners[1:], corners[0])
        for corner in corners:
            corner[:] = mean


def _seen(
    ground: Field,
    month: int,
    landscape: Landscape,
    window: Window,
    cover: float,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """One month's image, uint16 [11, H, W], from the ground's reflectance [10, H, W]."""
    seed = landscape.seed
    clouds = make_clouds(landscape, window, month, cover)
    own = normal(window, seed, "month texture", month, count=11)
    ground = ground * (clouds.shadow * np.exp(MONTH_TEXTURE * own[0]))
    ground *= np.float32(np.exp(BRIGHTNESS * rng.standard_normal()))
    ground += _column(HAZE_COUNTS * rng.standard_normal())
    white = SPECTRA["cloud"] * CLOUD_BRIGHTNESS[month] * rng.uniform(*CLOUD_BRIGHTNESS_SPREAD)
    ground += clouds.opacity * (_column(white) - ground)
    _coarsen(ground)
    ground += np.float32(NOISE_COUNTS) * own[1:]
    image = np.empty((11, *window.shape), np.uint16)
    image[:10] = np.rint(np.clip(ground, DARKEST, BRIGHTEST))
    image[10] = np.rint(clouds.probability)
    return image


def make_reflectance(
    landscape: Landscape,
    weather: Weather,
    availability: Availability,
    *,
    cloudiness: float,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """Simulates a year of Sentinel-2 composites.

    Args:
        landscape: What is looked at.
        weather: The year's weather.
        availability: Which images exist, and where they end.
        cloudiness: Factor on the cloud cover.
        rng: Source of what a whole image shares: clouds' cover, haze, brightness.

    Returns:
        uint16 [12, 11, H, W], reflectance × 10,000 and cloud probability; all zero in a month
        without an image, and zero with probability 255 beyond an image's border.
    """
    window = landscape.window.padded(-MARGIN_PIXELS)
    bare, snowy = _surface(landscape, weather)
    rows, columns = without_margin(landscape.window)
    shade = _shade(landscape)[rows, columns]
    light = _illumination(landscape, weather.sun_height)
    cover, strength = draw_cover(rng, cloudiness), _shade_strength(weather)
    out = np.zeros((12, 11, *window.shape), np.uint16)
    for month, month_rng in enumerate(rng.spawn(12)):
        if not availability.s2[month]:
            continue
        snow = _snow(landscape, window, weather.snow_cover[month])
        ground = bare[month] + snow * (snowy[month] - bare[month])
        ground *= (1 - np.float32(strength[month]) * shade) * light[month]
        out[month] = _seen(ground, month, landscape, window, cover[month], month_rng)
        if month in availability.swath_edges:
            beyond = ~availability.swath_edges[month].seen(*window.shape)
            out[month][:, beyond] = 0
            out[month][10, beyond] = CLP_NONE
    return out
