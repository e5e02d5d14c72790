"""The ground and its forest in one window."""

from dataclasses import dataclass

import numpy as np

from biomassters.simulation.forest import Forest, make_forest
from biomassters.simulation.landcover import LandCover, make_land_cover
from biomassters.simulation.noise import Field, Window

MARGIN_PIXELS = 4  # around a window, for what blurs; even, so that 20 m pixels stay aligned


@dataclass(frozen=True)
class Landscape:
    """What the satellites look at.

    Attributes:
        seed: Of the landscape.
        window: The pixels described, margin included.
        cover: Land cover.
        forest: Trees.
    """

    seed: int
    window: Window
    cover: LandCover
    forest: Forest

    def slope(self, axis: int) -> Field:
        """Rise of the terrain towards the south (axis 0) or the east (1), [H, W].

        In standard deviations of the terrain in 10 pixels; lakes are level.
        """
        rise = np.clip(10 * np.gradient(self.cover.terrain, axis=axis), -3, 3)
        return np.where(self.cover.water, 0, rise).astype(np.float32)


def make_landscape(window: Window, seed: int) -> Landscape:
    """Makes a window of the endless landscape, with a margin around it.

    Args:
        window: Where; without the margin.
        seed: Seed of the landscape.
    """
    padded = window.padded(MARGIN_PIXELS)
    cover = make_land_cover(padded, seed)
    return Landscape(seed, padded, cover, make_forest(padded, seed, cover))


def without_margin(window: Window) -> tuple[slice, slice]:
    """Rows and columns that remain of a padded window's arrays."""
    inner = slice(MARGIN_PIXELS, -MARGIN_PIXELS)
    assert min(window.shape) > 2 * MARGIN_PIXELS
    return inner, inner
