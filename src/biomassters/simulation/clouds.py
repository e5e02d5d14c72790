"""What is left of clouds in a monthly composite, their shadows, and the cloud probability."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from biomassters.simulation.landscape import Landscape
from biomassters.simulation.noise import Field, Window, normal, smooth

CLOUD_GRAIN_PIXELS = 45.0
THICKNESS = 2.4  # optical depth for one standard deviation above the clouds' level
HAZE_DEPTH = 0.12  # greatest optical depth of the thin veil around the clouds
SHADOW_SHIFT_PIXELS = (-9, 5)  # to the north-west of a cloud: the sun stands in the south-east
SHADOW_DEPTH = 0.55
# Composites choose clear days; some months have none. Gamma-distributed cover in percent,
# chosen so that about one image in five shows clouds, as among the real chip's.
COVER_SHAPE, COVER_SCALE = 0.3, 0.22
COVER_MAX = 0.7


@dataclass(frozen=True)
class Clouds:
    """Clouds over one month's image, float32 [H, W].

    Attributes:
        opacity: Share of the light that comes from the cloud, 0 to 1.
        shadow: Factor on the ground's reflectance, 1 without shadow.
        probability: As a cloud detector would put it, 0 to 100.
    """

    opacity: Field
    shadow: Field
    probability: Field


def draw_cover(rng: np.random.Generator, cloudiness: float) -> np.ndarray:
    """Cloud cover of each month, [12], 0 to ``COVER_MAX``.

    Args:
        rng: Source of the draws.
        cloudiness: Factor on it.
    """
    return np.minimum(cloudiness * rng.gamma(COVER_SHAPE, COVER_SCALE, 12), COVER_MAX)


def _depth(window: Window, seed: int, month: int, level: float) -> Field:
    """Optical depth of the clouds above their level in standard deviations."""
    field = smooth(window, seed, "clouds", month, grain=CLOUD_GRAIN_PIXELS, octaves=5)
    veil = HAZE_DEPTH / (1 + np.exp(-2.5 * (field - np.float32(level) + 0.6)))
    return THICKNESS * np.clip(field - np.float32(level), 0, None) + veil


def make_clouds(landscape: Landscape, window: Window, month: int, cover: float) -> Clouds:
    """Makes the clouds of one month's composite.

    Args:
        landscape: Below them.
        window: Where; without the landscape's margin.
        month: 0 to 11.
        cover: Share of the image under clouds.
    """
    seed = landscape.seed
    level = float(ndtri(1 - np.clip(cover, 1e-4, 0.999)))
    depth = _depth(window, seed, month, level)
    down, right = SHADOW_SHIFT_PIXELS
    sunwards = replace(window, top=window.top - down, left=window.left - right)
    opacity, above = (1 - np.exp(-d) for d in (depth, _depth(sunwards, seed, month, level)))
    doubt = 0.5 * normal(window, seed, "cloud doubt", month)[0]
    doubt += smooth(window, seed, "cloud doubts", month, grain=6)
    probability = 100 * (1 - np.exp(-4.0 * depth)) + 3.5 * np.exp(0.6 * doubt)
    fields = (opacity, 1 - SHADOW_DEPTH * above, np.clip(probability, 0, 100))
    return Clouds(*(np.asarray(field, np.float32) for field in fields))
