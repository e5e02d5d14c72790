"""A year of Sentinel-2: a mixture of spectra, dimmed by shade, under snow, haze and clouds.

Crowns cover a share of the pixel, the ground the rest, each with the spectrum of its season:
R = Σ share · spectrum. (Linear mixture: Adams, Smith & Johnson 1986, J. Geophys. Res. 91:8098.)

Reflectances are × 10,000. The spectra's shapes are the textbook ones: chlorophyll absorbs blue and
red, leaves are bright in the near infrared, water in leaves and snow absorbs in the shortwave
infrared. The levels are chosen so that the mixtures match the real chips' percentiles by month
(000aa810) and the closed forest of 001b0634 in September.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtri

from biomassters.chips.bands import CLP_NONE, S2
from biomassters.simulation.landscape import MARGIN_PIXELS, Landscape, without_margin
from biomassters.simulation.options import YearOptions
from biomassters.simulation.random_fields import Field, Window, normal, patch_uniform, smooth
from biomassters.simulation.year import Availability, Weather

OPTICAL = S2.bands[:-1]
COARSE = [OPTICAL.index(name) for name in ("B5", "B6", "B7", "B8A", "B11", "B12")]  # 20 m

#            B2    B3    B4    B5    B6    B7    B8   B8A   B11   B12
_TABLE = {
    "spruce": (110, 260, 150, 470, 1500, 1850, 1980, 2080, 820, 370),
    "pine": (170, 360, 260, 640, 1650, 1980, 2130, 2250, 1150, 560),
    "birch leaves": (160, 480, 230, 900, 2900, 3700, 3900, 4050, 1750, 780),
    "birch twigs": (420, 560, 680, 880, 1150, 1300, 1450, 1570, 1750, 1150),
    "rich floor green": (230, 560, 330, 1050, 2750, 3350, 3550, 3700, 1850, 900),
    "rich floor dead": (500, 720, 900, 1250, 1550, 1750, 1950, 2080, 2500, 1800),
    "heath floor": (380, 620, 600, 1080, 1750, 2000, 2150, 2280, 2150, 1250),
    "bare soil": (620, 880, 1150, 1480, 1700, 1880, 2020, 2150, 2850, 2250),
    "bog green": (340, 620, 560, 1080, 1850, 2150, 2300, 2430, 1900, 1000),
    "bog dead": (480, 720, 850, 1150, 1450, 1650, 1800, 1920, 2100, 1500),
    "grass green": (250, 650, 330, 1150, 3600, 4500, 4750, 4900, 1900, 900),
    "grass dead": (520, 780, 950, 1350, 1750, 2000, 2200, 2350, 2750, 1950),
    "crop ripe": (750, 1150, 1500, 1950, 2500, 2750, 2950, 3050, 3200, 2200),
    "water": (160, 190, 120, 100, 70, 70, 60, 60, 30, 20),
    "built": (1150, 1250, 1350, 1480, 1600, 1700, 1820, 1880, 2150, 1950),
    # Old snow (Warren 1982, Rev. Geophys. 20:67, for its shape), dimmed by grains and litter.
    "snow": (4600, 4650, 4600, 4500, 4350, 4250, 4150, 4050, 650, 520),
    "cloud": (6900, 6700, 6500, 6600, 6800, 6850, 7100, 6850, 4900, 3800),
}
SPECTRA = {name: np.array(row, float) for name, row in _TABLE.items()}

MEMBERS = (
    *("pine", "spruce", "birch", "rich floor", "heath floor", "cut", "bog"),
    *("grass", "cereal", "water", "built"),
)
# How much of a member the snow hides when open ground is white; trees shed most of it.
SNOW_SHARE = {"pine": 0.16, "spruce": 0.16, "birch": 0.06, "built": 0.6}
GRASSLAND_SHARE = 0.45  # of the fields
CUT_YEARS = 12.0  # bare soil and slash grow over

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
DARKEST, BRIGHTEST = 1, 19000  # 0 is no data; the archive's bands reach 15,226 to 19,616

SEAM_GRAIN_PIXELS = 60.0
CLOUD_GRAIN_PIXELS = 45.0
THICKNESS = 2.4  # optical depth for one standard deviation above the clouds' level
HAZE_DEPTH = 0.12  # greatest optical depth of the thin veil around the clouds
SHADOW_SHIFT_PIXELS = (-9, 5)  # to the north-west of a cloud: the sun stands in the south-east
SHADOW_DEPTH = 0.55
# Composites choose clear days; some months have none. Gamma-distributed cover in percent,
# chosen so that about one image in five shows clouds, as among the real chip's.
COVER_SHAPE, COVER_SCALE = 0.3, 0.22
CLOUD_COVER_MAX = 0.7
# The real chip's clouds reach 4,700 counts in March and 8,200 in August.
CLOUD_BRIGHTNESS = np.array([0.9, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.65, 0.95, 1.0, 1.05])
CLOUD_BRIGHTNESS_SPREAD = (0.8, 1.15)


def make_reflectance(
    landscape: Landscape,
    weather: Weather,
    availability: Availability,
    options: YearOptions,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """Simulates a year of Sentinel-2 composites; arguments as of ``simulate_year``.

    ``rng`` draws what a whole image shares: clouds' cover, haze, brightness.

    Returns:
        uint16 [12, 11, H, W], reflectance × 10,000 and cloud probability; all zero in a month
        without an image, and zero with probability 255 beyond an image's border.
    """
    window = landscape.window.padded(-MARGIN_PIXELS)
    bare, snowy = _surface(landscape, weather)
    shade = _shade(landscape)[without_margin(landscape.window)]
    light = _illumination(landscape, weather.sun_height)
    low_sun = 1 - weather.sun_height / weather.sun_height.max()
    strength = SHADE_SUMMER + (SHADE_WINTER - SHADE_SUMMER) * low_sun  # of full shade, [12]
    cover = np.minimum(
        options.cloudiness * rng.gamma(COVER_SHAPE, COVER_SCALE, 12), CLOUD_COVER_MAX
    )
    out = np.zeros((12, 11, *window.shape), np.uint16)
    for month, month_rng in enumerate(rng.spawn(12)):
        if not availability.s2[month]:
            continue
        snow = _snow(landscape, window, weather.snow_cover[month])
        ground = bare[month] + snow * (snowy[month] - bare[month])
        ground *= (1 - np.float32(strength[month]) * shade) * light[month]
        clouds = _clouds(landscape, window, month, cover[month])
        out[month] = _seen(ground, clouds, month, landscape, window, month_rng)
        if month in availability.swath_edges:
            beyond = ~availability.swath_edges[month].seen(*window.shape)
            out[month][:, beyond] = 0
            out[month][10, beyond] = CLP_NONE
    return out


def member_shares(landscape: Landscape) -> Field:
    """Share of each of ``MEMBERS`` in a pixel, float32 [11, H, W]; they sum to 1."""
    cover, forest = landscape.cover, landscape.forest
    ground = cover.forest
    crowns = forest.crown_cover * (ground | cover.bog)
    floor = (1 - crowns) * ground
    cut = floor * np.exp(-forest.years_since_cut / CUT_YEARS)
    rich = np.clip(1.6 * forest.fertility - 0.3, 0, 1)
    grass = patch_uniform(cover.field_patch, "grass") < GRASSLAND_SHARE
    shares = {
        "pine": crowns * forest.pine,
        "spruce": crowns * forest.spruce,
        "birch": crowns * forest.birch,
        "rich floor": (floor - cut) * rich,
        "heath floor": (floor - cut) * (1 - rich),
        "cut": cut,
        "bog": (1 - crowns) * cover.bog,
        "grass": cover.field & grass,
        "cereal": cover.field & ~grass,
        "water": cover.water,
        "built": cover.built | cover.paved,
    }
    return np.stack([np.asarray(shares[name], np.float32) for name in MEMBERS])


def member_spectra(weather: Weather) -> NDArray[np.float64]:
    """Spectrum of each member in each month without snow, [12, 11, 10]."""

    def blend(bare: str, full: str, share: NDArray[np.float64]) -> NDArray[np.float64]:
        return (1 - share[:, None]) * SPECTRA[bare] + share[:, None] * SPECTRA[full]

    ripe = weather.crop_ripe[:, None]
    seasonal = {
        "birch": blend("birch twigs", "birch leaves", weather.leaves),
        "rich floor": blend("rich floor dead", "rich floor green", weather.green),
        "cut": blend("bare soil", "rich floor green", 0.35 * weather.green),
        "bog": blend("bog dead", "bog green", weather.green),
        "grass": blend("grass dead", "grass green", weather.green),
        "cereal": (1 - ripe) * blend("bare soil", "grass green", weather.crop_green)
        + ripe * SPECTRA["crop ripe"],
    }
    always = {name: np.tile(SPECTRA[name], (12, 1)) for name in MEMBERS if name not in seasonal}
    return np.stack([(seasonal | always)[name] for name in MEMBERS], axis=1)


def snow_shares(weather: Weather) -> NDArray[np.float64]:
    """How much of each member the snow hides at full local snow, [12, 11]."""
    table = np.array([SNOW_SHARE.get(name, 1.0) for name in MEMBERS])
    shares = np.repeat(table[None], 12, axis=0)
    canopy = [MEMBERS.index(name) for name in ("pine", "spruce", "birch")]
    shares[:, canopy] *= weather.frost[:, None]  # it falls off in the thaw
    # Lakes freeze later than the ground is white; snow is scaled by its cover afterwards.
    lake = weather.ice / np.maximum(weather.snow_cover, 0.05)
    shares[:, MEMBERS.index("water")] = np.minimum(lake, 1)
    return shares


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
    built = landscape.cover.built | landscape.cover.paved
    strength = np.where(built, BUILT_TEXTURE, TEXTURE * (0.6 + _shade(landscape)))
    strength = landscape.site.texture * np.where(landscape.cover.water, WATER_TEXTURE, strength)
    return strength * own[0] + stand + BAND_TEXTURE * own[1:]


def _surface(landscape: Landscape, weather: Weather) -> Iterator[Field]:
    """Bare, then snowy reflectance of every month, each [12, 10, H, W] without margin."""
    shares = member_shares(landscape)
    factor = np.exp(_still_texture(landscape))
    for axis in (-1, -2):
        shares = gaussian_filter1d(shares, BLUR_PIXELS, axis=axis, truncate=3)
        factor = gaussian_filter1d(factor, BLUR_PIXELS, axis=axis, truncate=3)
    inner = (slice(None), *without_margin(landscape.window))
    shares, factor = shares[inner], factor[inner]
    flat = np.ascontiguousarray(shares.reshape(len(shares), -1))
    spectra = member_spectra(weather) * landscape.site.spectra
    hidden = snow_shares(weather)[:, :, None]
    for table in (spectra, (1 - hidden) * spectra + hidden * SPECTRA["snow"]):
        mixed = np.float32(table.transpose(0, 2, 1)).reshape(120, -1) @ flat
        yield mixed.reshape(12, 10, *shares.shape[1:]) * factor


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


def _snow(landscape: Landscape, window: Window, cover: float) -> Field:
    """Share of the ground under snow at each place, [H, W], about ``cover`` on average."""
    place = smooth(window, landscape.seed, "snow", grain=9, octaves=3)
    logit = np.log((cover + 1e-3) / (1 - cover + 1e-3)) * 1.6
    return 1 / (1 + np.exp(-(np.float32(logit) + np.float32(PATCHY_SNOW) * place)))


@dataclass(frozen=True)
class _Clouds:
    """What is left of clouds in a monthly composite, float32 [H, W]."""

    opacity: Field  # share of the light that comes from the cloud, 0 to 1
    shadow: Field  # factor on the ground's reflectance, 1 without shadow
    probability: Field  # as a cloud detector would put it, 0 to 100


def _cloud_depth(window: Window, seed: int, month: int, level: float) -> Field:
    """Optical depth of the clouds above their level in standard deviations."""
    field = smooth(window, seed, "clouds", month, grain=CLOUD_GRAIN_PIXELS, octaves=5)
    veil = HAZE_DEPTH / (1 + np.exp(-2.5 * (field - np.float32(level) + 0.6)))
    return THICKNESS * np.clip(field - np.float32(level), 0, None) + veil


def _clouds(landscape: Landscape, window: Window, month: int, cover: float) -> _Clouds:
    """The clouds over a share ``cover`` of one month's image."""
    seed = landscape.seed
    level = float(ndtri(1 - np.clip(cover, 1e-4, 0.999)))
    depth = _cloud_depth(window, seed, month, level)
    down, right = SHADOW_SHIFT_PIXELS
    sunwards = replace(window, top=window.top - down, left=window.left - right)
    opacity, above = (1 - np.exp(-d) for d in (depth, _cloud_depth(sunwards, seed, month, level)))
    doubt = 0.5 * normal(window, seed, "cloud doubt", month)[0]
    doubt += smooth(window, seed, "cloud doubts", month, grain=6)
    probability = 100 * (1 - np.exp(-4.0 * depth)) + 3.5 * np.exp(0.6 * doubt)
    fields = (opacity, 1 - SHADOW_DEPTH * above, np.clip(probability, 0, 100))
    return _Clouds(*(np.asarray(field, np.float32) for field in fields))


def _coarsen(reflectance: Field) -> None:
    """Gives the 20 m bands of [bands, H, W] one value in each 2 × 2 pixels, in place."""
    for band in COARSE:
        image = reflectance[band]
        corners = [image[row::2, column::2] for row in (0, 1) for column in (0, 1)]
        mean = np.float32(0.25) * sum(corners[1:], corners[0])
        for corner in corners:
            corner[:] = mean


def _seen(
    ground: Field,
    clouds: _Clouds,
    month: int,
    landscape: Landscape,
    window: Window,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """One month's image, uint16 [11, H, W], from the ground's reflectance [10, H, W]."""

    def column(spectrum: NDArray[np.float64]) -> Field:
        return spectrum.astype(np.float32)[:, None, None]

    seed, site = landscape.seed, landscape.site
    own = normal(window, seed, "month texture", month, count=11)
    ground = ground * (clouds.shadow * np.exp(MONTH_TEXTURE * own[0]))
    brightness, haze = rng.standard_normal(2)
    if site.seams[month]:
        second = smooth(window, seed, "seams", month, grain=SEAM_GRAIN_PIXELS, octaves=4) > 0
        ground[:, second] *= column(site.seam_gain[month])[..., 0]
        ground[:, second] += column(site.seam_haze_counts[month])[..., 0]
    ground *= column(site.gain[month]) * np.float32(np.exp(BRIGHTNESS * brightness))
    ground += column(HAZE_COUNTS * haze + site.haze_counts[month])
    white = SPECTRA["cloud"] * CLOUD_BRIGHTNESS[month] * rng.uniform(*CLOUD_BRIGHTNESS_SPREAD)
    opacity = clouds.opacity
    if site.veil[month]:
        thin = np.exp(0.5 * smooth(window, seed, "veil", month, grain=CLOUD_GRAIN_PIXELS))
        opacity = 1 - (1 - opacity) * np.exp(np.float32(-site.veil[month]) * thin)
    ground += opacity * (column(white) - ground)
    noise = np.float32(NOISE_COUNTS) * own[1:]
    if site.coarse_start is None:
        _coarsen(ground)
        ground += noise
    else:
        ground += noise
        start = site.coarse_start
        _coarsen(ground[:, start : window.height - start, start : window.width - start])
    image = np.empty((11, *window.shape), np.uint16)
    image[:10] = np.rint(np.clip(ground, DARKEST, BRIGHTEST))
    image[10] = np.rint(clouds.probability)
    return image
