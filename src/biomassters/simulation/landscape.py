"""The ground and its managed boreal forest, in any window of an endless plane.

First the land cover: lakes, open bogs, fields, settlements. On the rest grow stands with age,
site, species and density, and their biomass. ``radar`` and ``optical`` look at the result.

Shares of the cover are rounded from Finland's: lakes a tenth of the area, fields 8 %, forestry
land three quarters (Natural Resources Institute Finland, National Forest Inventory). Growth
follows Chapman & Richards (Richards 1959, J. Exp. Bot. 10:290; Pienaar & Turnbull 1973, Forest
Science 19:2): y = y_max · (1 − exp(−k · age))^p. Its parameters, like the spread within and
between stands, are chosen so that the label's mean, standard deviation, zeros and autocorrelation
are those of the real labels; shapes and sizes look like the real chips'.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.simulation.random_fields import (
    Field,
    Hashes,
    Window,
    normal,
    one_blas_thread,
    patch_uniform,
    patches,
    smooth,
    uniform,
    warped_place,
)
from biomassters.simulation.sites import NEUTRAL, Site

MARGIN_PIXELS = 4  # around a window, for what blurs; even, so that 20 m pixels stay aligned

LAKE_LEVEL = -1.35  # standard deviations of the terrain: 9 % of a normal distribution below
BOG_LEVEL = 1.45
FARM_LEVEL = 0.85
FIELD_SHARE = 0.55  # of the patches in farmland
TOWN_LEVEL = 1.55
BUILDING_SHARE = 0.3  # of the plots in a town
# Where towns are told apart: districts of houses and of blocks, on plots of 600 and 2,500 m².
DISTRICT_SPACING_PIXELS = 25.0
PLOT_SPACING_PIXELS = (2.5, 5.0)
HOUSES_SHARE = 0.6  # of the districts
PAVED_SHARE = 0.15  # of the plots: streets, yards, car parks
LOWEST_ROOF_M, ROOF_RANGE_M = 6.0, 21.0  # a house to the ridge, nine storeys
GARDEN_TREES_MAX = 2.0  # of a forest's biomass: bare gardens, and old parks that nobody cuts
# Laser heights alone don't tell a roof from a crown, and a label made of them has biomass on
# houses: in 000aa810, where NDVI is below 0.2, its mean is 27 Mg/ha under −10 dB of VV and 165
# above −2. So a roof counts as the closed stand of its height: 270 Mg/ha at 27 m.
ROOF_MG_PER_HA_AND_M = 10.0

STAND_SPACING_PIXELS = (12.0, 27.0)  # small and large stands, of 1.4 and 7 ha on average
LARGE_STAND_SHARE = 0.3  # of the large ones; the rest is cut up into small ones
COMPARTMENT_SPACING_PIXELS = 45.0  # stands of one owner, managed alike
ROTATION_YEARS = 135.0
CLEAR_CUT_SHARE = 0.045
CLEAR_CUT_YEARS = 5.0
GROWTH_SHAPE = 1.9
TEXTURE_SD = 0.28  # of the logarithm of biomass within a stand
TEXTURE_WHITE = 0.7  # its part that differs from pixel to pixel
# Optically the canopy closes at moderate biomass; in the real chip the reflectances of
# months 08 and 10 change little above 200 Mg/ha.
COVER_MAX = 0.92
COVER_AGB = 50.0
LEAF_AREA_SD = 0.6  # of its logarithm: crowns of the same biomass differ from pixel to pixel
HEIGHT_MAX_M = 27.0
BOG_TREES_MAX = 40.0  # stunted pines
# At equal biomass stands differ in density, height and form, and so in what a satellite sees.
STRUCTURE_SD = {"stand": 0.25, "pixel": 0.25}  # of the logarithm of the biomass that it looks like
# Laser scanning errs by a quarter on plots, in the Finnish nationwide models (Kotivuori, Korhonen
# & Packalen 2016, Silva Fennica 50:1567), partly alike in neighbouring pixels.
LABEL_SD = {"stand": 0.1, "pixel": 0.15}
OUTLIER_SHARE = 2e-5  # the real labels hold rare outliers, up to thousands of Mg/ha


@dataclass(frozen=True)
class LandCover:
    """The cover of a window, arrays [H, W]."""

    water: NDArray[np.bool_]  # lakes
    bog: NDArray[np.bool_]  # open, treeless or nearly treeless bogs
    field: NDArray[np.bool_]  # arable land
    field_patch: Hashes  # number of the parcel, for what is sown on it
    built: NDArray[np.bool_]  # buildings, and streets unless they are told apart
    paved: NDArray[np.bool_]  # streets and yards, told apart
    roof_m: Field  # height of buildings, told apart; else 0
    garden: Field  # biomass of a town's trees as a share of a forest's
    # Gardens, parks and everything else within a settlement, buildings included.
    town: NDArray[np.bool_]
    wetness: Field  # standard normal, high where the ground is wet
    terrain: Field  # standard normal, high on hills

    @property
    def forest(self) -> NDArray[np.bool_]:
        """Where trees grow: everywhere else, towns' gardens included."""
        return ~(self.water | self.bog | self.field | self.built | self.paved)


@dataclass(frozen=True)
class Forest:
    """The trees of a window, arrays [H, W], float32 but for the stand."""

    agb_mg_per_ha: Field  # aboveground biomass density
    # What it looks like from above: the biomass of an average stand that has these crowns.
    seen_mg_per_ha: Field
    label_mg_per_ha: Field  # the same as the label has it, with its errors and few outliers
    height_m: Field  # height of the stand's trees
    crown_cover: Field  # share of the ground under crowns
    pine: Field  # share of pine in the stand; the three shares sum to 1
    spruce: Field  # share of spruce
    birch: Field  # share of birch and other broad-leaved trees
    fertility: Field  # of the site, 0 (barren) to 1 (herb-rich)
    years_since_cut: Field  # age of the stand
    stand: Hashes  # number of the stand, uint32


@dataclass(frozen=True)
class Landscape:
    """What the satellites look at; ``window`` has the margin."""

    seed: int
    window: Window
    cover: LandCover
    forest: Forest
    site: Site = NEUTRAL

    def slope(self, axis: int) -> Field:
        """Rise of the terrain towards the south (axis 0) or the east (1), [H, W].

        In standard deviations of the terrain in 10 pixels; lakes are level.
        """
        rise = np.clip(10 * np.gradient(self.cover.terrain, axis=axis), -3, 3)
        return np.where(self.cover.water, 0, self.site.relief * rise).astype(np.float32)


@one_blas_thread
def make_landscape(window: Window, seed: int, site: Site = NEUTRAL) -> Landscape:
    """Makes a window of the landscape, with a margin of ``MARGIN_PIXELS`` around it."""
    padded = window.padded(MARGIN_PIXELS)
    cover = _land_cover(padded, seed, site)
    return Landscape(seed, padded, cover, _forest(padded, seed, cover, site), site)


def without_margin(window: Window) -> tuple[slice, slice]:
    """Rows and columns that remain of a padded window's arrays."""
    assert min(window.shape) > 2 * MARGIN_PIXELS
    inner = slice(MARGIN_PIXELS, -MARGIN_PIXELS)
    return inner, inner


def chapman_richards(age_years: Field, rate: Field | float, shape: float) -> Field:
    """Growth as a share of its maximum, rising from 0 to 1 with age."""
    return (1 - np.exp(-rate * age_years)) ** shape


def _float32(values: NDArray) -> Field:
    return np.asarray(values, np.float32)


def _correlated(first: Field, second: Field, weight: float) -> Field:
    """A standard normal field that has the given correlation with the first of two."""
    return weight * first + np.float32(np.sqrt(1 - weight**2)) * second


def _land_cover(window: Window, seed: int, site: Site) -> LandCover:
    region = smooth(window, seed, "region", grain=500)
    relief = smooth(window, seed, "relief", grain=75, octaves=4)
    terrain = _correlated(region, relief, 0.45)
    wetness = _correlated(-terrain, smooth(window, seed, "wetness", grain=60, octaves=3), 0.4)
    water = terrain < LAKE_LEVEL
    bog = ~water & (wetness > BOG_LEVEL)
    farm = smooth(window, seed, "farm", grain=260, octaves=2)
    place = warped_place(window, seed, "parcels", grain=70, shift=4)
    parcel = patches(place, seed, "parcel", spacing=19)
    field = (farm > FARM_LEVEL) & (patch_uniform(parcel, "sown") < FIELD_SHARE) & ~water & ~bog
    town_field = _correlated(farm, smooth(window, seed, "town", grain=160, octaves=2), 0.5)
    town = (town_field > TOWN_LEVEL) & ~(water | bog | field)
    roof: Field | float = 0.0
    garden: Field | float = 0.5
    if site.towns:
        district = patches(place, seed, "district", spacing=DISTRICT_SPACING_PIXELS)
        rank = patch_uniform(district, "storeys")
        small, large = (patches(place, seed, "plot", spacing=size) for size in PLOT_SPACING_PIXELS)
        plot = np.where(rank < HOUSES_SHARE, small, large)
        roof = LOWEST_ROOF_M + ROOF_RANGE_M * rank**3
        garden = GARDEN_TREES_MAX * patch_uniform(plot, "garden")
    else:
        plot = patches(place, seed, "plot", spacing=4)
    use = patch_uniform(plot, "house")
    built = town & (use < BUILDING_SHARE)
    return LandCover(
        water=water,
        bog=bog,
        field=field,
        field_patch=parcel,
        built=built,
        paved=town & (use > 1 - PAVED_SHARE * site.towns),
        roof_m=_float32(built * roof),
        garden=_float32(np.where(town, garden, 1)),
        town=town,
        wetness=wetness,
        terrain=terrain,
    )


def _stands(window: Window, seed: int) -> tuple[Hashes, Field]:
    """Numbers of the stands, large ones and small ones in between, and years since their cut."""
    place = warped_place(window, seed, "stands", grain=22, shift=3)
    small, large = (
        patches(place, seed, "stand", number, spacing=spacing)
        for number, spacing in enumerate(STAND_SPACING_PIXELS)
    )
    stand = np.where(patch_uniform(large, "whole") < LARGE_STAND_SHARE, large, small)
    compartment = patches(place, seed, "compartment", spacing=COMPARTMENT_SPACING_PIXELS)
    own, shared = patch_uniform(stand, "age"), patch_uniform(compartment, "age")
    age = ROTATION_YEARS * (0.65 * own + 0.35 * shared) ** 1.25
    cut = patch_uniform(stand, "cut")
    young = CLEAR_CUT_YEARS * cut / CLEAR_CUT_SHARE
    return stand, np.where(cut < CLEAR_CUT_SHARE, young, age)


def _fertility(window: Window, seed: int, stand: Hashes, cover: LandCover) -> Field:
    region = smooth(window, seed, "fertility region", grain=450)
    site = smooth(window, seed, "fertility", grain=110, octaves=2)
    own = patch_uniform(stand, "site") - np.float32(0.5)
    wet_loss = 0.12 * np.clip(cover.wetness, 0, None)
    return np.clip(0.5 + 0.15 * region + 0.14 * site + 0.3 * own - wet_loss, 0, 1)


def _species(
    stand: Hashes, fertility: Field, age: Field, shift: NDArray[np.float64]
) -> tuple[Field, Field, Field]:
    """Shares of pine, spruce and birch.

    Pine holds the poor sites, spruce the fertile ones; birch comes first after a cut.
    """
    score = np.stack(
        [
            2.2 - 4.0 * fertility + 3.0 * (patch_uniform(stand, "pine") - 0.5),
            -1.6 + 3.6 * fertility + 3.0 * (patch_uniform(stand, "spruce") - 0.5),
            -1.5 + 1.7 * np.exp(-age / 25) + 4.0 * (patch_uniform(stand, "birch") - 0.5),
        ]
    )
    weight = np.exp(1.6 * (score + shift.astype(np.float32)[:, None, None]))
    pine, spruce, birch = _float32(weight / weight.sum(axis=0))
    return pine, spruce, birch


def _forest(window: Window, seed: int, cover: LandCover, site: Site) -> Forest:
    stand, age = _stands(window, seed)
    fertility = _fertility(window, seed, stand, cover)
    pine, spruce, birch = _species(stand, fertility, age, site.species)
    share = chapman_richards(age, 0.016 + 0.022 * fertility, GROWTH_SHAPE)

    # Variation within stands, standard normal, grain 10 to 30 m.
    white, weight = normal(window, seed, "trees")[0], np.float32(TEXTURE_WHITE)
    grainy = smooth(window, seed, "groups of trees", grain=2.5)
    texture = weight * white + np.sqrt(1 - weight**2) * grainy

    density = 0.45 + 0.75 * patch_uniform(stand, "density") ** 0.8
    growing = (60 + 240 * fertility) * share * density
    trees = growing * np.exp(TEXTURE_SD * texture) - (1.5 + 2.0 * uniform(window, seed, "gaps"))
    trees *= cover.garden
    agb = np.where(cover.forest, np.clip(trees, 0, None), 0)
    pines = np.minimum(np.exp(1.1 * texture + 1.4), BOG_TREES_MAX)
    agb += np.where(cover.bog & (uniform(window, seed, "bog trees") < 0.3), pines, 0)
    seen, labelled = (
        agb * _errors(window, seed, name, stand, spread, strength)
        for name, spread, strength in (
            ("structure", STRUCTURE_SD, site.structure),
            ("label", LABEL_SD, site.label_noise),
        )
    )
    height = HEIGHT_MAX_M * (0.6 + 0.4 * fertility) * share**0.6 * np.exp(0.12 * texture)
    stand_crowns = site.crowns * (0.85 + 0.3 * patch_uniform(stand, "crowns"))
    crowns = stand_crowns * np.exp(LEAF_AREA_SD * normal(window, seed, "leaf area")[0])
    closed = 1 - np.exp(-crowns * seen / COVER_AGB)

    # Outliers of the label: zero but for very few pixels, where it is hundreds of Mg/ha.
    draw = uniform(window, seed, "outliers")
    extra = np.minimum(400 * (OUTLIER_SHARE / draw) ** 0.5, 2500)
    return Forest(
        agb_mg_per_ha=_float32(agb),
        seen_mg_per_ha=_float32(seen),
        label_mg_per_ha=_float32(
            labelled
            + ROOF_MG_PER_HA_AND_M * cover.roof_m
            + np.where(draw < OUTLIER_SHARE, extra, 0)
        ),
        height_m=_float32(height),
        crown_cover=_float32(COVER_MAX * closed),
        pine=pine,
        spruce=spruce,
        birch=birch,
        fertility=_float32(fertility),
        years_since_cut=_float32(age),
        stand=stand,
    )


def _errors(
    window: Window, seed: int, name: str, stand: Hashes, spread: Mapping[str, float], factor: float
) -> Field | float:
    """Lognormal factors of mean 1, partly alike within a stand, [H, W]; 1 for a factor of 0."""
    if not factor:
        return 1.0
    shared = np.sqrt(12) * (patch_uniform(stand, name) - 0.5)
    own = normal(window, seed, name)[0]
    scatter = factor * (spread["stand"] * shared + spread["pixel"] * own)
    variance = factor**2 * (spread["stand"] ** 2 + spread["pixel"] ** 2)
    return np.exp(scatter - np.float32(variance / 2))
