"""One seamless region, made window by window: whatever its size, memory stays the same."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.store.chunks import pack_backscatter
from biomassters.simulation.availability import Availability, everything, make_availability
from biomassters.simulation.backscatter import make_backscatter
from biomassters.simulation.landscape import make_landscape, without_margin
from biomassters.simulation.noise import Window
from biomassters.simulation.reflectance import make_reflectance
from biomassters.simulation.region_options import RegionSimulationOptions
from biomassters.simulation.weather import Weather, make_weather

TILE_PIXELS = 256  # even, so that Sentinel-2's 20 m pixels keep their place
NORTH_OF_CHIPS = 4096  # the archive's chips begin at row 0: none of them lies in a region
_REGION = 0x7E6104  # keeps the draws apart from those of the chips


@dataclass(frozen=True, eq=False)
class RegionTile:
    """A window of a region, with all that there is to see.

    Attributes:
        window: Where, from the region's upper left corner.
        s1: int16 [12, 4, H, W], 0.01 dB; −32768 where there is no data.
        s2: uint16 [12, 11, H, W], counts and cloud probability; 0 (CLP 255) without data.
        agb_mg_per_ha: float32 [H, W], the truth.
    """

    window: Window
    s1: NDArray[np.int16]
    s2: NDArray[np.uint16]
    agb_mg_per_ha: NDArray[np.float32]


class SimulatedRegion:
    """A region in which any window can be made on its own, and agrees with its neighbours.

    The weather, the gaps and what a whole image shares are drawn once for all windows.

    Args:
        options: Size, seed, weather.
    """

    def __init__(self, options: RegionSimulationOptions) -> None:
        self.options = options
        self._weather: Weather = make_weather(self._random(0))
        gaps = self._random(1)
        self._available = (
            make_availability(gaps, "test") if options.missing_images else everything()
        )

    @property
    def present(self) -> NDArray[np.bool_]:
        """Bool [12, 2]: months that have a Sentinel-1 and a Sentinel-2 image."""
        wanted = np.isin(np.arange(12), self.options.months)
        return np.stack([wanted, wanted & self._available.s2], axis=1)

    def tiles(self) -> Iterator[RegionTile]:
        """All windows, row by row; at the right and lower border they are narrower."""
        for top in range(0, self.options.height, TILE_PIXELS):
            for left in range(0, self.options.width, TILE_PIXELS):
                height = min(TILE_PIXELS, self.options.height - top)
                width = min(TILE_PIXELS, self.options.width - left)
                yield self.tile(Window(top, left, height, width))

    def tile(self, window: Window) -> RegionTile:
        """Make one window.

        Args:
            window: Top and left even; from the region's upper left corner.
        """
        options = self.options
        # Sentinel-2's coarse pixels are pairs of rows and columns: make whole ones.
        whole = Window(window.top, window.left, _even(window.height), _even(window.width))
        landscape = make_landscape(self._in_landscape(whole), options.seed)
        available = self._available_in(whole)
        s1_db = make_backscatter(
            landscape, self._weather, available, looks=options.speckle_looks, rng=self._random(2)
        )
        s2 = make_reflectance(
            landscape, self._weather, available, cloudiness=options.cloudiness, rng=self._random(3)
        )
        agb = landscape.forest.label_mg_per_ha[without_margin(landscape.window)]
        part = (..., slice(window.height), slice(window.width))
        return RegionTile(window, pack_backscatter(s1_db[part]), s2[part], agb[part])

    def _random(self, purpose: int) -> np.random.Generator:
        """A new generator for each window, so that all of them draw the same."""
        return np.random.default_rng([self.options.seed, _REGION, purpose])

    def _in_landscape(self, window: Window) -> Window:
        top = -NORTH_OF_CHIPS - _even(self.options.height) + window.top
        return Window(top, window.left, window.height, window.width)

    def _available_in(self, window: Window) -> Availability:
        size = (self.options.height, self.options.width)
        edges = {
            month: edge.within(size, window) for month, edge in self._available.swath_edges.items()
        }
        return Availability(self._available.s1_orbits, self._available.s2, edges)


def _even(count: int) -> int:
    return count + count % 2
