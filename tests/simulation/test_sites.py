from dataclasses import replace

import numpy as np
import pytest

from biomassters.simulation.landscape import MARGIN_PIXELS, make_landscape, without_margin
from biomassters.simulation.options import SimulationOptions, VarietyOptions, YearOptions
from biomassters.simulation.radar import crowns_db, make_backscatter
from biomassters.simulation.random_fields import Window
from biomassters.simulation.simulated_chips import simulate_chip, simulate_label
from biomassters.simulation.sites import NEUTRAL, Site, draw_site
from biomassters.simulation.year import everything, make_weather

SMALL = SimulationOptions(train_chips=4, test_chips=1, chip_size=32, missing_images=False)
PLAIN = simulate_chip(SMALL, 0)


def _with(**variety: float) -> SimulationOptions:
    return SMALL.model_copy(update={"variety": VarietyOptions(**variety)})


def _sites(count: int = 400, **variety: float) -> list[Site]:
    options = VarietyOptions(**variety)
    return [draw_site(options, np.random.default_rng(number)) for number in range(count)]


def test_without_variety_every_site_is_neutral():
    for site in (NEUTRAL, draw_site(VarietyOptions(), np.random.default_rng(7))):
        assert site.species_level == 1
        assert not np.any(site.species_db)
        for name in (
            "ageing_db",
            "moisture",
            "patchy_moisture_db",
            "leaf_shift_c",
            "structure",
            "label_noise",
        ):
            assert getattr(site, name) == 0, name
        for name in ("canopy_db", "ground_db", "orbit_db", "temperature_c", "haze_counts", "veil"):
            assert not np.any(getattr(site, name)), name
        for name in ("extinction", "roughness", "relief", "texture", "crowns", "spectra", "gain"):
            assert np.all(getattr(site, name) == 1), name
        assert site.layover_pixels == site.label_shift == (0, 0)
        assert site.coarse_start is None
        assert not site.seams.any()


@pytest.mark.parametrize(
    ("mechanism", "changed"),
    [
        ("climate", {"s1", "s2"}),
        ("layover", {"s1"}),
        ("levels", {"s1"}),
        ("radar", {"s1"}),
        ("vegetation", {"s1", "s2"}),  # the species scatter as they look
        ("atmosphere", {"s2"}),
        ("resampling", {"s2"}),
        ("seams", {"s2"}),
        ("texture", {"s1", "s2"}),
        ("relief", {"s1", "s2"}),
        ("structure", {"s1", "s2"}),
        ("labels", {"label"}),
    ],
)
def test_a_mechanism_changes_what_it_says_and_nothing_else(mechanism, changed):
    found = set()
    for index in range(2):
        plain, varied = simulate_chip(SMALL, index), simulate_chip(_with(**{mechanism: 1}), index)
        found |= {
            name for name in ("s1", "s2") if (plain.images[name] != varied.images[name]).any()
        }
        found |= {"label"} if (plain.agb_mg_per_ha != varied.agb_mg_per_ha).any() else set()
        np.testing.assert_array_equal(plain.present, varied.present)
    assert found - {"label"} == changed - {"label"}
    assert ("label" in found) == ("label" in changed)


def test_one_mechanism_more_leaves_the_draws_of_the_others():
    alone, together = (
        draw_site(VarietyOptions(radar=1, labels=also, climate=also), np.random.default_rng(3))
        for also in (0, 1)
    )
    np.testing.assert_array_equal(alone.canopy_db, together.canopy_db)
    np.testing.assert_array_equal(alone.orbit_db, together.orbit_db)
    assert together.temperature_c.any()


def test_spreads_are_those_that_are_cited():
    # Calibration 1/3 dB and incidence 0.6 dB: √(1/9 + 0.36) = 0.686 dB.
    sites = _sites(radar=1, climate=1)
    assert np.std([site.orbit_db for site in sites]) == pytest.approx(0.686, abs=0.05)
    # A factor of 0.7 on 3 °C of the winter, and of 0.7 on 3 °C of the month: 3 · √0.98.
    january = np.std([site.temperature_c[4] for site in sites])
    assert january == pytest.approx(3 * 0.98**0.5, abs=0.25)
    half = _sites(radar=0.5)
    assert np.std([site.orbit_db for site in half]) == pytest.approx(0.343, abs=0.025)


def test_mild_winters_have_no_snow():
    covers = [
        make_weather(np.random.default_rng(number), site).snow_cover[4]
        for number, site in enumerate(_sites(150, climate=1))
    ]
    plain = [make_weather(np.random.default_rng(number)).snow_cover[4] for number in range(150)]
    assert np.mean(np.array(plain) < 0.3) < 0.02
    assert 0.03 < np.mean(np.array(covers) < 0.3) < 0.25


def test_layover_moves_the_orbits_apart():
    # A bright wall of trees: ascending radar shows it to the west of its place, descending to the
    # east, by as many columns.
    window, seed = Window(0, 40_000, 64, 64), 4
    landscape = make_landscape(window, seed)
    weather = make_weather(np.random.default_rng(1))
    site = draw_site(VarietyOptions(layover=1), np.random.default_rng(2))
    asc, desc = site.layover_pixels
    assert 1 <= min(asc, desc) <= max(asc, desc) <= 3
    moved = make_landscape(window, seed, site)
    years = [
        make_backscatter(
            one, weather, everything(), YearOptions(speckle_looks=1e6), np.random.default_rng(2)
        )
        for one in (landscape, moved)
    ]
    plain, displaced = (year[10].astype(float) for year in years)
    for band, shift in ((1, asc), (3, -desc)):
        there, here = plain[band][:, 8 + shift : 56 + shift], displaced[band][:, 8:56]
        assert np.corrcoef(there.ravel(), here.ravel())[0, 1] > 0.97
        unmoved = plain[band][:, 8:56]
        assert np.corrcoef(unmoved.ravel(), here.ravel())[0, 1] < 0.9


def test_old_stands_are_darker_as_far_as_the_site_says():
    window, seed = Window(0, 40_000, 64, 64), 4
    site = replace(NEUTRAL, ageing_db=-1.0)
    plain, aged = (make_landscape(window, seed, one) for one in (NEUTRAL, site))
    biomass = plain.forest.seen_mg_per_ha
    assert biomass.max() > 150
    # A decibel for each 100 Mg/ha above 100, none below.
    change = crowns_db(aged) - crowns_db(plain)
    np.testing.assert_allclose(change, -np.clip(biomass - 100, 0, None) / 100, atol=1e-5)


def test_any_species_may_be_the_brightest():
    # The usual levels, −0.5, 0.4 and 0.3 dB, are gone with the systematic change.
    sites = _sites(levels=1, radar=1)
    assert all(site.species_level == 0 for site in sites)
    brightest = np.bincount([site.species_db.argmax() for site in sites], minlength=3)
    assert brightest.min() > 100  # 133 expected
    assert np.std([site.species_db for site in sites]) == pytest.approx(0.5, abs=0.04)
    ageing = [site.ageing_db for site in sites]
    assert np.mean(ageing) == pytest.approx(-0.25, abs=0.05)
    assert np.std(ageing) == pytest.approx(0.3, abs=0.03)


def test_whole_20_m_pixels_hold_one_value_where_the_grid_of_the_site_says():
    starts = set()
    for index in range(4):
        site_starts = []
        chip = simulate_chip(_with(resampling=True), index)
        image = chip.images["s2"][10, 8].astype(int)
        for start in (0, 1):
            inner = image[start : 32 - start, start : 32 - start]
            if (inner[::2] == inner[1::2]).all() and (inner[:, ::2] == inner[:, 1::2]).all():
                site_starts.append(start)
        assert len(site_starts) == 1
        starts |= set(site_starts)
    assert starts == {0, 1}
    plain = PLAIN.images["s2"][10, 8].astype(int)
    assert (plain[::2] != plain[1::2]).mean() > 0.5


def test_structure_hides_biomass_but_keeps_the_label():
    window = Window(0, 40_000, 128, 128)
    site = draw_site(VarietyOptions(structure=1), np.random.default_rng(0))
    plain, varied = make_landscape(window, 4).forest, make_landscape(window, 4, site).forest
    np.testing.assert_array_equal(plain.label_mg_per_ha, varied.label_mg_per_ha)
    np.testing.assert_array_equal(plain.seen_mg_per_ha, plain.agb_mg_per_ha)
    grown = plain.agb_mg_per_ha > 5
    ratio = np.log(varied.seen_mg_per_ha[grown] / varied.agb_mg_per_ha[grown])
    # 0.25 for the stand and 0.25 for the pixel: 0.354.
    assert ratio.std() == pytest.approx(0.354, abs=0.05)
    assert np.exp(ratio).mean() == pytest.approx(1, abs=0.05)


def test_labels_lie_off_by_whole_pixels():
    shifts = {site.label_shift for site in _sites(60, labels=1)}
    assert shifts == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    site = next(site for site in _sites(60, labels=1) if site.label_shift == (1, -1))
    landscape = make_landscape(Window(0, 0, 32, 32), 5, site)
    inner = without_margin(landscape.window)
    assert inner[0].start == MARGIN_PIXELS
    index = next(
        i for i in range(40)
        if draw_site(VarietyOptions(labels=1), np.random.default_rng([SMALL.seed, 0x517E, i]))
        .label_shift == (1, -1)
    )  # fmt: skip
    options = _with(labels=1)
    chip = simulate_label(options, index)
    assert chip.shape == (32, 32)


def test_labels_of_both_ways_agree():
    options = _with(labels=1, structure=1)
    np.testing.assert_array_equal(
        simulate_chip(options, 1).agb_mg_per_ha, simulate_label(options, 1)
    )


def test_towns_told_apart_have_roofs_in_the_label_and_streets_without_trees():
    site = draw_site(VarietyOptions(towns=True), np.random.default_rng(0))
    window = next(
        one for one in (Window(0, 500 * n, 96, 96) for n in range(99))
        if make_landscape(one, 4).cover.town.mean() > 0.4
    )  # fmt: skip
    plain, landscape = make_landscape(window, 4), make_landscape(window, 4, site)
    cover, forest = landscape.cover, landscape.forest
    np.testing.assert_array_equal(plain.cover.town, cover.town)
    assert not plain.cover.paved.any()
    assert not plain.cover.roof_m.any()
    roofs = cover.roof_m[cover.built]
    assert 6 <= roofs.min() < 8
    assert 15 < roofs.max() <= 27
    assert not cover.roof_m[~cover.built].any()
    assert not forest.agb_mg_per_ha[cover.built | cover.paved].any()
    assert 0.2 < cover.built[cover.town].mean() < 0.4
    assert 0.1 < cover.paved[cover.town].mean() < 0.2
    # A closed stand of 27 m has 270 Mg/ha; nothing else is in the label, but for rare outliers.
    np.testing.assert_allclose(
        np.median(forest.label_mg_per_ha[cover.built] / roofs), 10, rtol=1e-5
    )
    np.testing.assert_array_equal(
        plain.forest.agb_mg_per_ha[~cover.town], forest.agb_mg_per_ha[~cover.town]
    )

    year = make_backscatter(
        landscape, make_weather(np.random.default_rng(1)), everything(), YearOptions(),
        np.random.default_rng(2),
    )  # fmt: skip
    summer_vv = np.median(year[8:12, 0], axis=0)
    built, paved, roof = (
        one[without_margin(landscape.window)] for one in (cover.built, cover.paved, cover.roof_m)
    )
    high, low = (summer_vv[built & tall].mean() for tall in (roof > 15, roof < 8))
    assert high > low + 2
    assert low > summer_vv[paved].mean() + 1
