"""A managed boreal forest: stands with age, site, species and density, and their biomass.

Growth follows Chapman & Richards (Richards 1959, J. Exp. Bot. 10:290; Pienaar & Turnbull
1973, Forest Science 19:2): y = y_max · (1 − exp(−k · age))^p. Its parameters, like the
spread within and between stands, are chosen so that the label's mean, standard deviation,
zeros and autocorrelation are those of the real labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.simulation.landcover import LandCover
from biomassters.simulation.noise import Field, Hashes, Window, normal, smooth, uniform
from biomassters.simulation.patches import Place, patch_uniform, patches, warped_place

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
OUTLIER_SHARE = 2e-5  # the real labels hold rare outliers, up to thousands of Mg/ha


@dataclass(frozen=True)
class Forest:
    """The trees of a window, arrays [H, W], float32 but for the stand.

    Attributes:
        agb_mg_per_ha: Aboveground biomass density, which the images see.
        label_mg_per_ha: The same as the label has it, with its few outliers.
        height_m: Height of the stand's trees.
        crown_cover: Share of the ground under crowns.
        pine: Share of pine in the stand; the three shares sum to 1.
        spruce: Share of spruce.
        birch: Share of birch and other broad-leaved trees.
        fertility: Of the site, 0 (barren) to 1 (herb-rich).
        years_since_cut: Age of the stand.
        stand: Number of the stand, uint32.
    """

    agb_mg_per_ha: Field
    label_mg_per_ha: Field
    height_m: Field
    crown_cover: Field
    pine: Field
    spruce: Field
    birch: Field
    fertility: Field
    years_since_cut: Field
    stand: Hashes


def _float32(values: NDArray) -> Field:
    return np.asarray(values, np.float32)


def chapman_richards(age_years: Field, rate: Field | float, shape: float) -> Field:
    """Growth as a share of its maximum, rising from 0 to 1 with age."""
    return (1 - np.exp(-rate * age_years)) ** shape


def _stands(place: Place, seed: int) -> Hashes:
    """Numbers of the stands: large ones, and small ones in between."""
    small, large = (
        patches(place, seed, "stand", number, spacing=spacing)
        for number, spacing in enumerate(STAND_SPACING_PIXELS)
    )
    return np.where(patch_uniform(large, "whole") < LARGE_STAND_SHARE, large, small)


def _age(stand: Hashes, compartment: Hashes) -> Field:
    """Years since the last clear-cut, partly alike within a compartment."""
    own, shared = patch_uniform(stand, "age"), patch_uniform(compartment, "age")
    age = ROTATION_YEARS * (0.65 * own + 0.35 * shared) ** 1.25
    cut = patch_uniform(stand, "cut")
    return np.where(cut < CLEAR_CUT_SHARE, CLEAR_CUT_YEARS * cut / CLEAR_CUT_SHARE, age)


def _fertility(window: Window, seed: int, stand: Hashes, cover: LandCover) -> Field:
    region = smooth(window, seed, "fertility region", grain=450)
    site = smooth(window, seed, "fertility", grain=110, octaves=2)
    own = patch_uniform(stand, "site") - np.float32(0.5)
    wet_loss = 0.12 * np.clip(cover.wetness, 0, None)
    return np.clip(0.5 + 0.15 * region + 0.14 * site + 0.3 * own - wet_loss, 0, 1)


def _species(stand: Hashes, fertility: Field, age: Field) -> tuple[Field, Field, Field]:
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
    weight = np.exp(1.6 * score)
    pine, spruce, birch = _float32(weight / weight.sum(axis=0))
    return pine, spruce, birch


def _texture(window: Window, seed: int) -> Field:
    """Standard normal variation within stands, grain 10 to 30 m."""
    white = normal(window, seed, "trees")[0]
    grainy = smooth(window, seed, "groups of trees", grain=2.5)
    weight = np.float32(TEXTURE_WHITE)
    return weight * white + np.sqrt(1 - weight**2) * grainy


def _outliers(window: Window, seed: int) -> Field:
    """Mg/ha to add: zero but for very few pixels, where it is hundreds."""
    draw = uniform(window, seed, "outliers")
    return np.where(draw < OUTLIER_SHARE, np.minimum(400 * (OUTLIER_SHARE / draw) ** 0.5, 2500), 0)


def make_forest(window: Window, seed: int, cover: LandCover) -> Forest:
    """Grows the forest of a window.

    Args:
        window: Where.
        seed: Seed of the landscape.
        cover: The window's land cover.
    """
    place = warped_place(window, seed, "stands", grain=22, shift=3)
    stand = _stands(place, seed)
    compartment = patches(place, seed, "compartment", spacing=COMPARTMENT_SPACING_PIXELS)
    age = _age(stand, compartment)
    fertility = _fertility(window, seed, stand, cover)
    pine, spruce, birch = _species(stand, fertility, age)
    share = chapman_richards(age, 0.016 + 0.022 * fertility, GROWTH_SHAPE)
    density = 0.45 + 0.75 * patch_uniform(stand, "density") ** 0.8
    texture = _texture(window, seed)
    growing = (60 + 240 * fertility) * share * density
    trees = growing * np.exp(TEXTURE_SD * texture) - (1.5 + 2.0 * uniform(window, seed, "gaps"))
    trees *= np.where(cover.town, 0.5, 1.0)
    agb = np.where(cover.forest, np.clip(trees, 0, None), 0)
    pines = np.minimum(np.exp(1.1 * texture + 1.4), BOG_TREES_MAX)
    agb += np.where(cover.bog & (uniform(window, seed, "bog trees") < 0.3), pines, 0)
    height = HEIGHT_MAX_M * (0.6 + 0.4 * fertility) * share**0.6 * np.exp(0.12 * texture)
    stand_crowns = 0.85 + 0.3 * patch_uniform(stand, "crowns")
    crowns = stand_crowns * np.exp(LEAF_AREA_SD * normal(window, seed, "leaf area")[0])
    closed = 1 - np.exp(-crowns * agb / COVER_AGB)
    return Forest(
        agb_mg_per_ha=_float32(agb),
        label_mg_per_ha=_float32(agb + _outliers(window, seed)),
        height_m=_float32(height),
        crown_cover=_float32(COVER_MAX * closed),
        pine=pine,
        spruce=spruce,
        birch=birch,
        fertility=_float32(fertility),
        years_since_cut=_float32(age),
        stand=stand,
    )
