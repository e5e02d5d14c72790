import numpy as np
import pytest

from biomassters.simulation.weather import make_weather, snow_depths, sun_height


def test_the_sun_stands_highest_in_june_at_51_degrees():
    assert sun_height().argmax() == 9
    assert np.degrees(np.arcsin(sun_height().max())) == pytest.approx(51.3, abs=0.1)
    assert (sun_height() > 0).all()


def test_snow_gathers_in_the_cold_and_melts_in_the_warmth():
    depth = snow_depths(np.array([9, 4, -5, -8, -8, -8, -5, 4, 9, 14, 16, 14.0]))
    assert depth[:2] == pytest.approx(0, abs=0.01)
    assert (np.diff(depth[2:6]) > 0).all()
    assert depth[9:] == pytest.approx(0, abs=0.01)


def test_a_warm_winter_has_no_snow():
    assert snow_depths(np.full(12, 6.0)) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_every_share_is_a_share_and_seasons_are_seasons(seed):
    weather = make_weather(np.random.default_rng(seed))
    for name in ("frost", "snow_cover", "wet_snow", "ice", "leaves", "green", "crop_green"):
        values = getattr(weather, name)
        assert values.shape == (12,)
        assert values.min() >= 0, name
        assert values.max() <= 1, name
    assert weather.frost[5] > weather.frost[10]
    assert weather.snow_cover[9:].max() < 0.1
    assert weather.leaves[10] > 0.95
    assert weather.leaves[5] == 0
    assert (weather.wet_snow <= weather.snow_cover).all()
