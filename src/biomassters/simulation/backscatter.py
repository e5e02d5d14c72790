"""A year of Sentinel-1: the water-cloud model, frost, relief, texture and speckle.

Water-cloud model (Attema & Ulaby 1978, Radio Science 13:357), in linear power:
σ⁰ = σ_canopy · (1 − exp(−B · V)) + σ_ground · exp(−B · V), with V the biomass.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from biomassters.chips.bands import S1_NODATA_DB
from biomassters.simulation import backscatter_levels as level
from biomassters.simulation.availability import Availability
from biomassters.simulation.landscape import MARGIN_PIXELS, Landscape, without_margin
from biomassters.simulation.noise import Field, normal, smooth
from biomassters.simulation.patches import patch_uniform
from biomassters.simulation.weather import Weather

GROUNDS = ("soil", "bog", "field", "water", "built")


def water_cloud(
    biomass: Field, canopy: Field | float, ground: Field | float, extinction: float
) -> Field:
    """Backscatter of a canopy over ground, linear power.

    Args:
        biomass: Of the canopy, Mg/ha.
        canopy: Backscatter of an opaque canopy.
        ground: Backscatter of the bare ground.
        extinction: Two-way, ha/Mg.
    """
    through = np.exp(-np.float32(extinction) * biomass)
    return canopy * (1 - through) + ground * through


def speckle(gaussian: Field, looks: float) -> Field:
    """Gamma-distributed speckle of mean 1 and variance 1/looks from Gaussian noise.

    The cube of Wilson & Hilferty (1931, PNAS 17:684).
    """
    spread = np.float32(1 / (9 * looks))
    return np.clip(1 - spread + gaussian * np.sqrt(spread), 0, None) ** 3


def _power(db: ArrayLike) -> Field:
    """Decibels as linear power, float32."""
    return np.exp(np.asarray(db, np.float32) * np.float32(np.log(10) / 10))


def canopy_db(weather: Weather) -> NDArray[np.float64]:
    """Backscatter of an opaque canopy, [12, 2 polarizations]."""
    frost = weather.frost[:, None] * level.FROST_DB["canopy"]
    return level.CANOPY_DB + frost + level.MOISTURE_DB["canopy"] * weather.moisture[:, None]


def ground_db(weather: Weather) -> NDArray[np.float64]:
    """Backscatter of each of ``GROUNDS``, [12, 2 polarizations, 5]."""
    season = weather.frost[:, None] * level.FROST_DB["ground"]
    season = season + level.MOISTURE_DB["ground"] * weather.moisture[:, None]
    season += weather.wet_snow[:, None] * level.WET_SNOW_DB
    ice = weather.ice[:, None]
    waves = level.GROUND_DB["water"] + level.WIND_DB * weather.wind[:, None]
    table = {name: level.GROUND_DB[name] + season for name in ("soil", "bog")}
    crop = weather.crop_green[:, None] * level.CROP_DB
    table["field"] = level.GROUND_DB["field"] + season + crop
    table["water"] = ice * level.GROUND_DB["ice"] + (1 - ice) * waves
    table["built"] = np.broadcast_to(level.GROUND_DB["built"], season.shape)
    return np.stack([table[name] for name in GROUNDS], axis=2)


def _ground_index(landscape: Landscape) -> NDArray[np.intp]:
    cover = landscape.cover
    conditions = [cover.bog, cover.field, cover.water, cover.built]
    return np.select(conditions, [1, 2, 3, 4], 0).astype(np.intp)


def _crowns_db(landscape: Landscape) -> Field:
    """What a stand's species and structure add to its canopy's backscatter, [H, W]."""
    forest = landscape.forest
    structure = level.STAND_DB * np.sqrt(12) * (patch_uniform(forest.stand, "structure") - 0.5)
    species = ((name, getattr(forest, name)) for name in level.SPECIES_DB)
    return structure + sum(level.SPECIES_DB[name] * share for name, share in species)


def _surface(landscape: Landscape, weather: Weather) -> Field:
    """Backscatter before texture, linear power, [12, 2 polarizations, H, W]."""
    crowns = _power(_crowns_db(landscape))
    canopy, ground = _power(canopy_db(weather)), _power(ground_db(weather))
    index = _ground_index(landscape)
    out = np.empty((12, 2, *landscape.window.shape), np.float32)
    for month, polarization in np.ndindex(12, 2):
        out[month, polarization] = water_cloud(
            landscape.forest.agb_mg_per_ha,
            canopy[month, polarization] * crowns,
            ground[month, polarization][index],
            float(level.EXTINCTION_HA_PER_MG[polarization]),
        )
    return out


def _still_texture(landscape: Landscape, orbit_db: NDArray[np.float64]) -> Field:
    """What is the same in every month, linear factors [2 orbits, 2 polarizations, H, W].

    Slopes that face the sensor are brighter; the two orbits look from opposite sides.
    """
    window, seed, cover = landscape.window, landscape.seed, landscape.cover
    slope = level.SLOPE_DB * landscape.slope(axis=1)
    own = normal(window, seed, "scatterers", count=7)
    shared, orbits, bands = own[0], own[1:3, None], own[3:].reshape(2, 2, *window.shape)
    texture = level.TEXTURE_DB * (0.6 * shared + 0.55 * orbits + 0.58 * bands)
    texture = np.where(cover.water, 0.15 * texture, texture)
    texture += np.where(cover.built, level.BUILDING_DB * (0.8 * shared + 0.6 * orbits), 0)
    side = np.array([1.0, -1.0])[:, None, None, None]
    return _power(texture + side * slope + orbit_db[:, None, None, None])


def _flicker(landscape: Landscape, looks: float) -> Field:
    """Speckle and what changes from month to month, factors [12, 2 orbits, 2, H, W]."""
    window, seed = landscape.window, landscape.seed
    shape = (12, 2, 2, *window.shape)
    grains = speckle(normal(window, seed, "speckle", count=48), looks).reshape(shape)
    months = [smooth(window, seed, "change", month, grain=3) for month in range(12)]
    return grains * _power(level.CHANGE_DB * np.stack(months))[:, None, None]


def _measure(power: Field, landscape: Landscape) -> Field:
    """Linear power as the instrument delivers it: blurred, with noise, in dB."""
    for axis in (-1, -2):
        power = gaussian_filter1d(power, level.BLUR_PIXELS, axis=axis, mode="nearest", truncate=3)
    rows, columns = without_margin(landscape.window)
    power = power[..., rows, columns]
    inner = landscape.window.padded(-MARGIN_PIXELS)
    noise = normal(inner, landscape.seed, "sensor noise", count=48).reshape(power.shape)
    power = power + _power(level.NOISE_DB) * np.float32(level.NOISE_SPREAD) * noise
    return 10 * np.log10(np.maximum(power, _power(level.FLOOR_DB)))


def make_backscatter(
    landscape: Landscape,
    weather: Weather,
    availability: Availability,
    *,
    looks: float,
    rng: np.random.Generator,
) -> Field:
    """Simulates a year of Sentinel-1 composites.

    Args:
        landscape: What is looked at.
        weather: The year's weather.
        availability: Which orbits have data.
        looks: Equivalent number of looks of a composite.
        rng: Source of the offsets of the two orbits.

    Returns:
        float32 [12, 4, H, W] in dB, bands in the archive's order; −9999 where an orbit has
        no data.
    """
    orbit_db = level.ORBIT_DB * rng.standard_normal(2)
    power = _surface(landscape, weather)[:, None] * _still_texture(landscape, orbit_db)
    db = _measure(power * _flicker(landscape, looks), landscape)
    db[~availability.s1_orbits] = S1_NODATA_DB
    return db.reshape(12, 4, *db.shape[-2:])
