"""The simulated images' values lie where the real ones do."""

import numpy as np
import pytest
import rasterio

from biomassters.chips.bands import BAND_NAMES, S1, S2
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import simulate_chip

CHIPS = 24
REAL_CHIP = "000aa810"
SEASONS = {"autumn": (0, 1, 2), "winter": (3, 4, 5), "spring": (6, 7, 8), "summer": (9, 10, 11)}
S1_COUNT = len(S1.bands)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def _pixels(s1, s2, band):
    """Valid pixels of a band in one month's images [4, H, W] and [11, H, W]; None: no image."""
    if band < S1_COUNT:
        return [] if s1 is None else s1[band][s1[band] > -9999]
    if s2 is None:
        return []
    image, seen = s2[band - S1_COUNT], s2[:-1].any(axis=0)
    if BAND_NAMES[band] == "CLP":
        seen = seen & (image != 255)
    return image[seen].astype(np.float32)


def _ranges(years):
    """1st and 99th percentile by season and band of months' images (month, s1, s2)."""
    ranges = {}
    for season, months in SEASONS.items():
        for band, name in enumerate(BAND_NAMES):
            parts = [_pixels(s1, s2, band) for month, s1, s2 in years if month in months]
            values = np.concatenate(parts)
            if values.size:
                ranges[season, name] = np.percentile(values, [1, 99])
    return ranges


@pytest.fixture(scope="module")
def simulated_ranges():
    options = SimulationOptions(chip_size=96)
    years = []
    for index in range(CHIPS):
        chip = simulate_chip(options, index)
        for month in range(12):
            s2 = chip.images["s2"][month] if chip.present[month, 1] else None
            years.append((month, chip.images["s1"][month], s2))
    return _ranges(years)


@pytest.fixture(scope="module")
def real_ranges(sample_root):
    def read(sensor, month):
        path = sample_root / "train_features" / f"{REAL_CHIP}_{sensor.tag}_{month:02d}.tif"
        if not path.exists():
            return None
        with rasterio.open(path) as image:
            return image.read()

    return _ranges([(month, read(S1, month), read(S2, month)) for month in range(12)])


def test_ranges_overlap_by_at_least_half(simulated_ranges, real_ranges):
    assert len(real_ranges) == 4 * 2 + 2 * 2 + 2 * 11 + 2  # S1 asc, desc; S2 spring, summer
    poor = {}
    for which, (low, high) in real_ranges.items():
        first, last = simulated_ranges[which]
        shared = min(high, last) - max(low, first)
        overlap = shared / (max(high, last) - min(low, first))
        if overlap < 0.5:
            poor[which] = (round(float(overlap), 2), (low, high), (first, last))
    assert not poor


def test_every_season_and_band_is_simulated(simulated_ranges):
    assert set(simulated_ranges) == {(s, name) for s in SEASONS for name in BAND_NAMES}
