import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.simulation.landscape import (
    MARGIN_PIXELS,
    chapman_richards,
    make_landscape,
    without_margin,
)
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.random_fields import Window
from biomassters.simulation.simulated_chips import chip_window

OPTIONS = SimulationOptions()


@pytest.fixture(scope="module")
def landscapes():
    return [
        make_landscape(chip_window(OPTIONS, index), OPTIONS.seed)
        for index in range(OPTIONS.train_chips)
    ]


@pytest.fixture(scope="module")
def labels(landscapes):
    inner = without_margin(landscapes[0].window)
    return np.stack([landscape.forest.label_mg_per_ha[inner] for landscape in landscapes])


def test_the_label_has_the_real_labels_mean_and_spread(labels):
    # Real train labels: mean 63.5, standard deviation 72.2 Mg/ha.
    assert labels.mean() == pytest.approx(63, abs=8)
    assert labels.std() == pytest.approx(72, abs=8)


def test_the_label_has_the_real_labels_zeros_and_tail(labels):
    # 000aa810 has 30 % zeros and 0.1 % above 400 Mg/ha; 001b0634 19 % and 0.6 %.
    assert 0.19 < (labels == 0).mean() < 0.31
    assert 0.0003 < (labels > 400).mean() < 0.006
    assert labels.min() == 0
    assert 500 < labels.max() < 5000
    assert np.isfinite(labels).all()


def test_neighbouring_pixels_are_as_alike_as_real_ones(labels):
    # Real autocorrelation at 10 m: 0.77 and 0.87; at 30 m 0.50 and 0.68.
    centred = np.clip(labels, 0, 500) - labels.mean(axis=(1, 2), keepdims=True)
    variance = centred.var()
    near, far = ((centred[:, :, lag:] * centred[:, :, :-lag]).mean() / variance for lag in (1, 3))
    assert 0.65 < near < 0.9
    assert 0.4 < far < 0.75


def test_chips_differ_as_places_do(labels):
    means = labels.mean(axis=(1, 2))
    assert 15 < means.std() < 45
    zeros = (labels == 0).mean(axis=(1, 2))
    assert zeros.min() < 0.08
    assert zeros.max() > 0.5


def test_every_cover_occurs(landscapes):
    for name in ("water", "bog", "field", "built", "forest"):
        share = np.mean([getattr(landscape.cover, name).mean() for landscape in landscapes])
        assert share > 0.004, name
    young = [
        landscape.forest.years_since_cut[landscape.cover.forest] < 5 for landscape in landscapes
    ]
    assert 0.02 < np.concatenate(young).mean() < 0.12


def test_nothing_grows_on_water_fields_and_buildings(landscapes):
    for landscape in landscapes[:20]:
        cover, agb = landscape.cover, landscape.forest.agb_mg_per_ha
        assert not agb[cover.water | cover.field | cover.built].any()
        assert (agb[cover.bog] < 60).all()
        together = [cover.water, cover.bog, cover.field, cover.built, cover.forest]
        assert (np.sum(together, axis=0) == 1).all()


def test_species_shares_sum_to_one_and_follow_the_site(landscapes):
    forests = [landscape.forest for landscape in landscapes[:40]]
    pine, spruce, birch, fertility = (
        np.concatenate([getattr(forest, name).ravel() for forest in forests])
        for name in ("pine", "spruce", "birch", "fertility")
    )
    assert pine + spruce + birch == pytest.approx(1, abs=1e-5)
    poor, rich = fertility < 0.35, fertility > 0.65
    assert pine[poor].mean() > 2 * pine[rich].mean()
    assert spruce[rich].mean() > 2 * spruce[poor].mean()
    assert 0.1 < birch.mean() < 0.35


def test_chapman_richards_by_hand():
    # (1 − e^(−0.02·50))^2 = 0.63212^2
    assert chapman_richards(np.array(50.0), 0.02, 2.0) == pytest.approx(0.39958, abs=1e-5)


@given(st.floats(0.01, 0.06), st.floats(1, 3))
def test_growth_rises_from_nothing_to_its_maximum(rate, shape):
    growth = chapman_richards(np.linspace(0, 2000, 400), rate, shape)
    assert growth[0] == 0
    assert growth[-1] == pytest.approx(1, abs=1e-3)
    assert (np.diff(growth) >= 0).all()


def test_landscapes_of_two_windows_agree_where_they_meet():
    left, right = (make_landscape(Window(64, x, 64, 64), 5) for x in (0, 64))
    a = left.forest.agb_mg_per_ha[:, -2 * MARGIN_PIXELS :]
    b = right.forest.agb_mg_per_ha[:, : 2 * MARGIN_PIXELS]
    close = np.isclose(a, b, rtol=1e-3, atol=0.1)
    assert close.mean() > 0.99  # a border pixel may fall to the neighbouring stand by rounding
