"""A year of Sentinel-1: the water-cloud model, frost, relief, texture and speckle.

Water-cloud model (Attema & Ulaby 1978, Radio Science 13:357), in linear power:
σ⁰ = σ_canopy · (1 − exp(−B · V)) + σ_ground · exp(−B · V), with V the biomass.

The levels are chosen to match the medians by biomass class of the real chip 000aa810: in summer
VV rises from −10.1 (below 50 Mg/ha) to −8.9, VH from −16.5 to −14.4; in February both lie
about 2 dB lower, and open ground 3 to 4 dB. They are in dB; pairs are VV and VH.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from biomassters.chips.bands import S1_NODATA_DB
from biomassters.simulation.landscape import MARGIN_PIXELS, Landscape, without_margin
from biomassters.simulation.options import YearOptions
from biomassters.simulation.random_fields import Field, normal, patch_uniform, smooth
from biomassters.simulation.sites import AGEING_FROM_MG_PER_HA
from biomassters.simulation.year import Availability, Weather

CANOPY_DB = np.array([-9.5, -15.0])
EXTINCTION_HA_PER_MG = (0.018, 0.018)  # fits the real chip's classes
GROUND_DB = {
    "soil": np.array([-11.8, -19.3]),
    "bog": np.array([-11.6, -18.8]),
    "field": np.array([-12.2, -20.3]),
    "water": np.array([-17.5, -24.5]),
    "built": np.array([-3.0, -9.0]),
    "paved": np.array([-13.0, -21.0]),  # a guess: smoother than soil
}
ICE_DB = np.array([-18.5, -25.5])
CROP_DB = np.array([0.5, 3.5])  # a grown crop over bare soil
FROST_DB = {"canopy": np.array([-2.3, -2.6]), "ground": np.array([-3.4, -4.2])}
WET_SNOW_DB = np.array([-2.0, -2.0])  # below Nagler & Rott's 3 dB (2000): months are means
MOISTURE_DB = {"canopy": 0.25, "ground": 0.8}
WIND_DB = 2.0
SPECIES_DB = {"pine": -0.5, "spruce": 0.4, "birch": 0.3}  # a guess: crowns differ in structure
STAND_DB = 0.7  # a stand's structure that biomass doesn't tell
ORBIT_DB = 0.25  # incidence angles differ from place to place
SLOPE_DB = 2.5  # on a slope of one standard deviation of terrain in 10 pixels
TEXTURE_DB = 2.6  # single trees and stones, the same in every month; before the blur
CHANGE_DB = 0.5  # what changes from month to month; both from the real chip's variance
BUILDING_DB = 5.0
# The wall of the double bounce grows with the roof (Franceschetti, Iodice & Riccio 2002, IEEE
# Trans. Geosci. Remote Sens. 40:1787): 3 dB when it doubles. A building of this height is as bright
# as "built"; houses are lower, and the town of 000aa810 is 6 dB darker than one of such buildings.
BRIGHT_ROOF_M = 32.0
BLUR_PIXELS = 0.7  # 20 m resolution on a 10 m grid
NOISE_DB = -23.0  # the sensor's noise is subtracted, its fluctuation stays; spec: below −22
NOISE_SPREAD = 0.15  # of that fluctuation in a monthly mean, a share of the noise
FLOOR_DB = -45.0  # the lowest real values are −43.6


def make_backscatter(
    landscape: Landscape,
    weather: Weather,
    availability: Availability,
    options: YearOptions,
    rng: np.random.Generator,
) -> Field:
    """Simulates a year of Sentinel-1 composites; arguments as of ``simulate_year``.

    ``rng`` draws the offsets of the two orbits.

    Returns:
        float32 [12, 4, H, W] in dB, bands in the archive's order; −9999 where an orbit has
        no data.
    """
    orbit_db = ORBIT_DB * rng.standard_normal(2)
    power = _surface(landscape, weather)[:, None] * _still_texture(landscape, orbit_db)
    db = _measure(power * _flicker(landscape, options.speckle_looks), landscape)
    db[~availability.s1_orbits] = S1_NODATA_DB
    return db.reshape(12, 4, *db.shape[-2:])


def water_cloud(
    biomass: Field, canopy: Field | float, ground: Field | float, extinction: float
) -> Field:
    """Backscatter of a canopy of some biomass (Mg/ha) over ground, linear power.

    ``canopy`` is that of an opaque canopy, ``ground`` that of bare ground; the extinction is
    two-way, in ha/Mg.
    """
    through = np.exp(-np.float32(extinction) * biomass)
    return canopy * (1 - through) + ground * through


def speckle(gaussian: Field, looks: float) -> Field:
    """Gamma-distributed speckle of mean 1 and variance 1/looks from Gaussian noise.

    The cube of Wilson & Hilferty (1931, PNAS 17:684).
    """
    variance = np.float32(1 / (9 * looks))
    return np.clip(1 - variance + gaussian * np.sqrt(variance), 0, None) ** 3


def canopy_db(weather: Weather) -> NDArray[np.float64]:
    """Backscatter of an opaque canopy, [12, 2 polarizations]."""
    frost = weather.frost[:, None] * FROST_DB["canopy"]
    return CANOPY_DB + frost + MOISTURE_DB["canopy"] * weather.moisture[:, None]


def ground_db(weather: Weather) -> NDArray[np.float64]:
    """Backscatter of each ground in ``GROUND_DB``, [12, 2 polarizations, 6]."""
    season = weather.frost[:, None] * FROST_DB["ground"]
    season = season + MOISTURE_DB["ground"] * weather.moisture[:, None]
    season += weather.wet_snow[:, None] * WET_SNOW_DB
    ice = weather.ice[:, None]
    waves = GROUND_DB["water"] + WIND_DB * weather.wind[:, None]
    table = {
        "soil": GROUND_DB["soil"] + season,
        "bog": GROUND_DB["bog"] + season,
        "field": GROUND_DB["field"] + season + weather.crop_green[:, None] * CROP_DB,
        "water": ice * ICE_DB + (1 - ice) * waves,
        "built": np.broadcast_to(GROUND_DB["built"], season.shape),
        "paved": GROUND_DB["paved"] + season,
    }
    return np.stack([table[name] for name in GROUND_DB], axis=2)


def _power(db: ArrayLike) -> Field:
    """Decibels as linear power, float32."""
    return np.exp(np.asarray(db, np.float32) * np.float32(np.log(10) / 10))


def crowns_db(landscape: Landscape) -> Field:
    """What a stand's species and structure add to its canopy's backscatter, [H, W]."""
    forest, site = landscape.forest, landscape.site
    structure = STAND_DB * np.sqrt(12) * (patch_uniform(forest.stand, "structure") - 0.5)
    usual = site.species_level * np.array(list(SPECIES_DB.values())) + site.species_db
    db = structure + sum(
        float(db) * getattr(forest, name) for name, db in zip(SPECIES_DB, usual, strict=True)
    )
    if site.ageing_db:
        db += float(site.ageing_db / 100) * np.maximum(
            forest.seen_mg_per_ha - AGEING_FROM_MG_PER_HA, 0
        )
    return db


def _surface(landscape: Landscape, weather: Weather) -> Field:
    """Backscatter before texture, linear power, [12, 2 polarizations, H, W]."""
    cover = landscape.cover
    grounds = [getattr(cover, name) for name in list(GROUND_DB)[1:]]
    index = np.select(grounds, range(1, len(GROUND_DB)), 0)  # soil where nothing else is
    crowns = _power(crowns_db(landscape))
    site = landscape.site
    # Water and buildings know no moisture and no roughness of the soil.
    ground_shift = site.ground_db[:, None] * np.isin(list(GROUND_DB), ["soil", "bog", "field"])
    canopy = _power(canopy_db(weather) + site.canopy_db)
    ground = _power(ground_db(weather) + ground_shift)
    patches: Field | float = 1.0
    if site.towns:
        patches = np.where(cover.built, cover.roof_m / np.float32(BRIGHT_ROOF_M), patches)
    if site.patchy_moisture_db:
        patches = patches * _power(np.where(index < 3, site.patchy_moisture_db * cover.wetness, 0))
    out = np.empty((12, 2, *landscape.window.shape), np.float32)
    for month, polarization in np.ndindex(12, 2):
        out[month, polarization] = water_cloud(
            landscape.forest.seen_mg_per_ha,
            canopy[month, polarization] * crowns,
            ground[month, polarization][index] * patches,
            site.extinction * EXTINCTION_HA_PER_MG[polarization],
        )
    return out


def _still_texture(landscape: Landscape, orbit_db: NDArray[np.float64]) -> Field:
    """What is the same in every month, linear factors [2 orbits, 2 polarizations, H, W].

    Slopes that face the sensor are brighter; the two orbits look from opposite sides.
    """
    window, seed, cover = landscape.window, landscape.seed, landscape.cover
    slope = SLOPE_DB * landscape.slope(axis=1)
    own = normal(window, seed, "scatterers", count=7)
    shared, orbits, bands = own[0], own[1:3, None], own[3:].reshape(2, 2, *window.shape)
    texture = landscape.site.roughness * TEXTURE_DB * (0.6 * shared + 0.55 * orbits + 0.58 * bands)
    texture = np.where(cover.water, 0.15 * texture, texture)
    texture += np.where(cover.built, BUILDING_DB * (0.8 * shared + 0.6 * orbits), 0)
    orbits_db = orbit_db[:, None] + landscape.site.orbit_db
    side = np.array([1.0, -1.0])[:, None, None, None]
    return _power(texture + side * slope + orbits_db[..., None, None])


def _flicker(landscape: Landscape, looks: float) -> Field:
    """Speckle and what changes from month to month, factors [12, 2 orbits, 2, H, W]."""
    window, seed = landscape.window, landscape.seed
    shape = (12, 2, 2, *window.shape)
    grains = speckle(normal(window, seed, "speckle", count=48), looks).reshape(shape)
    months = [smooth(window, seed, "change", month, grain=3) for month in range(12)]
    return grains * _power(CHANGE_DB * np.stack(months))[:, None, None]


def _measure(power: Field, landscape: Landscape) -> Field:
    """Linear power as the instrument delivers it: blurred, with noise, in dB."""
    for axis in (-1, -2):
        power = gaussian_filter1d(power, BLUR_PIXELS, axis=axis, mode="nearest", truncate=3)
    rows, columns = without_margin(landscape.window)
    asc, desc = landscape.site.layover_pixels  # the one looks eastwards, the other westwards
    power = np.stack(
        [
            power[:, orbit, :, rows, columns.start + shift : columns.stop + shift]
            for orbit, shift in enumerate((asc, -desc))
        ],
        axis=1,
    )
    inner = landscape.window.padded(-MARGIN_PIXELS)
    noise = normal(inner, landscape.seed, "sensor noise", count=48).reshape(power.shape)
    power = power + _power(NOISE_DB) * np.float32(NOISE_SPREAD) * noise
    return 10 * np.log10(np.maximum(power, _power(FLOOR_DB)))
