import numpy as np
import pandas as pd
import pytest

from biomassters.chips.bands import MONTH_NAMES
from biomassters.simulation.year import (
    S2_MONTH_PATTERNS,
    make_availability,
    make_weather,
    snow_depths,
    sun_height,
)


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


def _many(split, count=3000):
    rng = np.random.default_rng(0)
    return [make_availability(rng, split) for _ in range(count)]


def test_patterns_are_counted_in_the_real_metadata(sample_root):
    inventory = pd.read_parquet(sample_root / "features_inventory.parquet")
    images = inventory[inventory["satellite"] == "S2"]
    month = images["month"].map({name: index for index, name in enumerate(MONTH_NAMES)})
    for column, split in enumerate(("train", "test")):
        chosen = images["split"] == split
        table = pd.crosstab(images.loc[chosen, "chip_id"], month[chosen])
        found = table.astype(str).agg("".join, axis=1).value_counts()
        expected = {p: n[column] for p, n in S2_MONTH_PATTERNS.items() if n[column]}
        assert found.to_dict() == expected


@pytest.mark.parametrize(("split", "december"), [("train", 1251 / 8689), ("test", 539 / 2773)])
def test_months_are_missing_as_often_as_in_the_archive(split, december):
    present = np.stack([available.s2 for available in _many(split)])
    share = present.mean(axis=0)
    assert share.argmin() == 3
    assert share[3] == pytest.approx(december, abs=0.025)
    assert share[8:].min() == 1
    assert set(present.sum(axis=1)) <= {5, 6, 9, 10, 11, 12}


def test_an_orbit_is_missing_for_whole_winter_months_and_never_both():
    orbits = np.stack([available.s1_orbits for available in _many("train")])
    assert orbits.any(axis=2).all()
    assert orbits[:, [0, 1, 8, 9, 10, 11]].all()
    lacking = ~orbits.all(axis=1)
    assert lacking[:, 1].mean() == pytest.approx(0.4, abs=0.03)
    assert 0.02 < lacking[:, 0].mean() < 0.08
    as_in_000aa810 = (~orbits[:, 2:8, 1]).all(axis=1)
    assert as_in_000aa810.mean() > 0.15


def test_few_images_end_within_the_chip():
    many = _many("train")
    images = sum(int(available.s2.sum()) for available in many)
    edges = sum(len(available.swath_edges) for available in many)
    assert edges / images == pytest.approx(0.05, abs=0.01)
    for available in many:
        assert all(available.s2[month] for month in available.swath_edges)
