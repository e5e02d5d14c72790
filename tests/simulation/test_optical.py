import itertools

import numpy as np
import pytest

from biomassters.simulation.landscape import make_landscape, without_margin
from biomassters.simulation.optical import (
    COARSE,
    MEMBERS,
    make_reflectance,
    member_shares,
    member_spectra,
    snow_shares,
)
from biomassters.simulation.options import YearOptions
from biomassters.simulation.random_fields import Window
from biomassters.simulation.year import SwathEdge, everything, make_weather

WINDOW = Window(0, 40_000, 128, 128)
RED, NIR, SWIR, CLP = 2, 6, 8, 10


@pytest.fixture(scope="module")
def landscape():
    return make_landscape(WINDOW, 4)


@pytest.fixture(scope="module")
def weather():
    return make_weather(np.random.default_rng(1))


def _year(landscape, weather, available=None, cloudiness=0.0):
    available = available or everything()
    rng = np.random.default_rng(3)
    return make_reflectance(landscape, weather, available, YearOptions(cloudiness=cloudiness), rng)


def test_shares_sum_to_one(landscape):
    shares = member_shares(landscape)
    assert shares.shape == (len(MEMBERS), 136, 136)
    assert shares.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert shares.min() >= 0


def test_snow_hides_at_most_everything(weather):
    shares = snow_shares(weather)
    assert shares.min() >= 0
    assert shares.max() <= 1
    trees = [MEMBERS.index(name) for name in ("pine", "spruce", "birch")]
    assert shares[:, trees].max() < 0.3


def test_birch_is_green_in_july_and_bare_in_february(weather):
    spectra = member_spectra(weather)
    birch, spruce = MEMBERS.index("birch"), MEMBERS.index("spruce")
    assert spectra[10, birch, NIR] > 2 * spectra[5, birch, NIR]
    np.testing.assert_array_equal(spectra[10, spruce], spectra[5, spruce])


def test_a_cloudless_year(landscape, weather):
    image = _year(landscape, weather)
    assert image.shape == (12, 11, 128, 128)
    assert image.dtype == np.uint16
    assert (image[:, :10] > 0).all()
    assert np.percentile(image[:, CLP], 95) < 40
    assert image[:, CLP].max() <= 100


def test_closed_forest_is_darker_than_open(landscape, weather):
    image = _year(landscape, weather)[10].astype(float)
    inner = without_margin(landscape.window)
    agb = landscape.forest.agb_mg_per_ha[inner]
    forest = landscape.cover.forest[inner]
    edges = [-1, 10, 50, 120, 600]
    for band in (RED, SWIR):
        means = [
            image[band][forest & (agb > low) & (agb <= high)].mean()
            for low, high in itertools.pairwise(edges)
        ]
        assert (np.diff(means) < 0).all()


def test_snow_is_bright_in_red_and_dark_in_the_shortwave_infrared(landscape, weather):
    image = _year(landscape, weather).astype(float)
    inner = without_margin(landscape.window)
    open_ground = (landscape.forest.crown_cover < 0.05)[inner] & ~landscape.cover.water[inner]
    january, july = image[4][:, open_ground].mean(axis=1), image[10][:, open_ground].mean(axis=1)
    assert january[RED] > 2 * july[RED]
    assert january[SWIR] < 0.7 * july[SWIR]


def test_20_m_bands_are_smoother(landscape, weather):
    image = _year(landscape, weather)[9].astype(float)
    coarse = COARSE[0]
    pairs = image[coarse].reshape(64, 2, 64, 2)
    assert np.abs(pairs[:, 0] - pairs[:, 1]).mean() < 40  # the sensor's noise alone
    fine = image[NIR].reshape(64, 2, 64, 2)
    assert np.abs(fine[:, 0] - fine[:, 1]).mean() > 100


def test_clouds_are_bright_and_known_to_the_cloud_probability(landscape, weather):
    image = _year(landscape, weather, cloudiness=3.0).astype(float)
    thick = image[:, CLP] > 95
    assert 0.02 < thick.mean() < 0.8
    summer = slice(9, 12)
    blue, cloudy = image[summer, 0], thick[summer]
    assert np.median(blue[cloudy]) > 2 * np.median(blue[image[summer, CLP] < 20])


def test_a_missing_month_is_zero_and_changes_no_other(landscape, weather):
    available = everything()
    available.s2[3] = False
    image, whole = _year(landscape, weather, available), _year(landscape, weather)
    assert not image[3].any()
    kept = np.arange(12) != 3
    np.testing.assert_array_equal(image[kept], whole[kept])


def test_beyond_the_swath_pixels_are_zero_with_probability_255(landscape, weather):
    available = everything()
    available.swath_edges[9] = SwathEdge(share=0.4, slope=0.25, from_left=True)
    month = _year(landscape, weather, available)[9]
    empty = (month[:10] == 0).all(axis=0)
    assert 0.5 < empty.mean() < 0.7
    np.testing.assert_array_equal(month[CLP] == 255, empty)
    assert not empty[:, 0].any()


@pytest.mark.parametrize(("share", "seen"), [(0.0, 0), (1.0, 1), (0.5, 0.5)])
@pytest.mark.parametrize("from_left", [True, False])
def test_a_swath_edge_leaves_its_share(share, seen, from_left):
    assert SwathEdge(share, 0.0, from_left).seen(10, 20).mean() == seen
