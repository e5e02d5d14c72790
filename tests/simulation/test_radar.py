import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.simulation.landscape import make_landscape, without_margin
from biomassters.simulation.options import YearOptions
from biomassters.simulation.radar import (
    canopy_db,
    ground_db,
    make_backscatter,
    speckle,
    water_cloud,
)
from biomassters.simulation.random_fields import Window, normal
from biomassters.simulation.year import everything, make_weather

WINDOW = Window(0, 0, 64, 64)
levels = st.floats(1e-4, 1)


@given(st.floats(0, 800), levels, levels, st.floats(0.001, 0.1))
def test_water_cloud_lies_between_ground_and_canopy(biomass, canopy, ground, extinction):
    power = water_cloud(np.float64(biomass), canopy, ground, extinction)
    assert min(canopy, ground) * (1 - 1e-6) <= power <= max(canopy, ground) * (1 + 1e-6)


def test_water_cloud_by_hand():
    biomass = np.array([0.0, 50.0, 1e6])
    # exp(−0.02 · 50) = 0.36788: 0.1 · 0.63212 + 0.01 · 0.36788
    expected = [0.01, 0.066891, 0.1]
    assert water_cloud(biomass, 0.1, 0.01, 0.02) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0, 600), min_size=2, max_size=8))
def test_more_biomass_is_brighter_and_saturates(biomass):
    sorted_biomass = np.sort(np.array(biomass))
    power = water_cloud(sorted_biomass, 0.04, 0.01, 0.018)
    assert (np.diff(power) >= -1e-9).all()
    assert (water_cloud(sorted_biomass + 50, 0.04, 0.01, 0.018) - power).argmax() == 0


@pytest.mark.parametrize("looks", [4.0, 20.0, 80.0])
def test_speckle_has_mean_one_and_variance_one_over_looks(looks):
    draws = speckle(normal(Window(0, 0, 400, 400), 1, "s")[0], looks).astype(float)
    assert draws.mean() == pytest.approx(1, abs=0.01)
    assert draws.var() == pytest.approx(1 / looks, rel=0.05)
    assert draws.min() >= 0


def test_frost_dims_canopy_and_ground():
    weather = make_weather(np.random.default_rng(0))
    cold, warm = weather.temperature_c.argmin(), weather.temperature_c.argmax()
    for table in (canopy_db(weather), ground_db(weather)[..., 0]):
        assert (table[cold] < table[warm] - 0.5).all()


def _year(window=WINDOW, seed=4, available=None, looks=20.0):
    landscape = make_landscape(window, seed)
    weather = make_weather(np.random.default_rng(1))
    available = available or everything()
    rng = np.random.default_rng(2)
    return landscape, make_backscatter(
        landscape, weather, available, YearOptions(speckle_looks=looks), rng
    )


def test_bands_and_type():
    _, db = _year()
    assert db.shape == (12, 4, 64, 64)
    assert db.dtype == np.float32
    assert np.isfinite(db).all()
    co, cross = db[:, ::2].mean(), db[:, 1::2].mean()
    assert 4 < co - cross < 8


def test_higher_biomass_is_brighter_in_vh_on_average():
    landscape, db = _year(Window(0, 40_000, 256, 256))
    agb = landscape.forest.agb_mg_per_ha[without_margin(landscape.window)]
    edges = [0, 20, 60, 120, 400]
    for band in (1, 3):
        means = [
            db[9, band][(agb > low) & (agb <= high)].mean()
            for low, high in itertools.pairwise(edges)
        ]
        assert (np.diff(means) > 0).all()
        assert means[-1] - means[-2] < means[1] - means[0] + means[2] - means[1]


def test_a_missing_orbit_is_nodata_and_leaves_the_other_alone():
    available = everything()
    available.s1_orbits[3:5, 1] = False
    _, db = _year(available=available)
    _, whole = _year()
    assert (db[3:5, 2:] == -9999).all()
    np.testing.assert_array_equal(db[:, :2], whole[:, :2])
    assert (db[5:, 2:] > -60).all()


def test_more_looks_make_less_speckle():
    rough, fine = (_year(looks=looks)[1][:, 0] for looks in (2.0, 50.0))
    assert rough.std(axis=0).mean() > fine.std(axis=0).mean()
