"""What covers the ground: lakes, open bogs, fields, settlements, and forest on the rest.

The shares are rounded from Finland's: lakes a tenth of the area, fields 8 %, forestry land
three quarters of the total area (Natural Resources Institute Finland, National Forest
Inventory). Shapes and sizes are chosen to look like the real chips.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.simulation.noise import Field, Hashes, Window, smooth
from biomassters.simulation.patches import patch_uniform, patches, warped_place

LAKE_LEVEL = -1.35  # standard deviations of the terrain: 9 % of a normal distribution below
BOG_LEVEL = 1.45
FARM_LEVEL = 0.85
FIELD_SHARE = 0.55  # of the patches in farmland
TOWN_LEVEL = 1.55
BUILDING_SHARE = 0.3  # of the plots in a town


@dataclass(frozen=True)
class LandCover:
    """The cover of a window, arrays [H, W].

    Attributes:
        water: Lakes.
        bog: Open, treeless or nearly treeless bogs.
        field: Arable land.
        field_patch: Number of the parcel, for what is sown on it.
        built: Buildings and streets.
        town: Gardens, parks and everything else within a settlement, buildings included.
        wetness: Standard normal, high where the ground is wet.
        terrain: Standard normal, high on hills.
    """

    water: NDArray[np.bool_]
    bog: NDArray[np.bool_]
    field: NDArray[np.bool_]
    field_patch: Hashes
    built: NDArray[np.bool_]
    town: NDArray[np.bool_]
    wetness: Field
    terrain: Field

    @property
    def forest(self) -> NDArray[np.bool_]:
        """Where trees grow: everywhere else, towns' gardens included."""
        return ~(self.water | self.bog | self.field | self.built)


def _correlated(first: Field, second: Field, weight: float) -> Field:
    """A standard normal field that has the given correlation with the first of two."""
    return weight * first + np.float32(np.sqrt(1 - weight**2)) * second


def make_land_cover(window: Window, seed: int) -> LandCover:
    """Lays out a window of the landscape.

    Args:
        window: Where.
        seed: Seed of the landscape.
    """
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
    plot = patches(place, seed, "plot", spacing=4)
    built = town & (patch_uniform(plot, "house") < BUILDING_SHARE)
    return LandCover(water, bog, field, parcel, built, town, wetness, terrain)
