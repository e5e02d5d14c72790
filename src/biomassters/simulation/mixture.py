"""The linear mixture that a Sentinel-2 pixel sees: end members and their shares.

Crowns cover a share of the pixel, the ground the rest, each with the spectrum of its season:
R = Σ share · spectrum. (Linear mixture: Adams, Smith & Johnson 1986, J. Geophys. Res. 91:8098.)
"""

import numpy as np
from numpy.typing import NDArray

from biomassters.simulation.landscape import Landscape
from biomassters.simulation.noise import Field
from biomassters.simulation.patches import patch_uniform
from biomassters.simulation.spectra import SPECTRA
from biomassters.simulation.weather import Weather

MEMBERS = (
    *("pine", "spruce", "birch", "rich floor", "heath floor", "cut", "bog"),
    *("grass", "cereal", "water", "built"),
)
# How much of a member the snow hides when open ground is white; trees shed most of it.
SNOW_SHARE = {"pine": 0.16, "spruce": 0.16, "birch": 0.06, "built": 0.6}
GRASSLAND_SHARE = 0.45  # of the fields
CUT_YEARS = 12.0  # bare soil and slash grow over


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
        "built": cover.built,
    }
    return np.stack([np.asarray(shares[name], np.float32) for name in MEMBERS])


def _blend(bare: str, full: str, share: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - share[:, None]) * SPECTRA[bare] + share[:, None] * SPECTRA[full]


def member_spectra(weather: Weather) -> NDArray[np.float64]:
    """Spectrum of each member in each month without snow, [12, 11, 10]."""
    always = np.ones(12)
    ripe = weather.crop_ripe[:, None]
    seasonal = {
        "pine": _blend("pine", "pine", always),
        "spruce": _blend("spruce", "spruce", always),
        "birch": _blend("birch twigs", "birch leaves", weather.leaves),
        "rich floor": _blend("rich floor dead", "rich floor green", weather.green),
        "heath floor": _blend("heath floor", "heath floor", always),
        "cut": _blend("bare soil", "rich floor green", 0.35 * weather.green),
        "bog": _blend("bog dead", "bog green", weather.green),
        "grass": _blend("grass dead", "grass green", weather.green),
        "cereal": (1 - ripe) * _blend("bare soil", "grass green", weather.crop_green)
        + ripe * SPECTRA["crop ripe"],
        "water": _blend("water", "water", always),
        "built": _blend("built", "built", always),
    }
    return np.stack([seasonal[name] for name in MEMBERS], axis=1)


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
