"""Simulated plots: their places, what lies under them, and the areas that they are for."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from biomassters.simulation.simulated_plots import simulate_plots


@pytest.fixture
def region(tmp_path):
    """Biomass that rises by 2 Mg/ha a pixel eastwards, 200 x 160 pixels."""
    values = np.tile(2 * np.arange(200, dtype=np.float32), (160, 1))
    with rasterio.open(
        tmp_path / "agb.tif", "w", driver="GTiff", count=1, dtype="float32", height=160,
        width=200, crs="EPSG:3067", transform=from_origin(400_000, 6_900_000, 10, 10),
    ) as file:  # fmt: skip
        file.write(values, 1)
    return tmp_path


def test_plots_hold_the_truth_of_their_place(region):
    tables, _ = simulate_plots(region, 40, 1)
    for name in ("simple_random", "stratified", "cluster"):
        table = tables[name]
        assert len(table) == 40
        # The mean under a circle on a slope is the value in its middle, to half a pixel's step.
        middle = 2 * ((table["x"] - 400_000) / 10 - 0.5)
        assert (table["agb_mg_per_ha"] - middle).abs().max() < 1.1
        assert table["x"].between(400_009, 401_991).all()
        assert table["y"].between(6_898_409, 6_899_991).all()
        assert not table.duplicated(["x", "y"]).any()


def test_the_same_seed_gives_the_same_plots(region):
    one, other, another = (simulate_plots(region, 40, seed)[0] for seed in (1, 1, 2))
    assert one["cluster"].equals(other["cluster"])
    assert not one["cluster"].equals(another["cluster"])


def test_strata_and_clusters(region):
    tables, _ = simulate_plots(region, 40, 1)
    # 64 and 96 rows of 120 and 80 columns, a pixel has 0.01 ha.
    assert dict(tables["strata"].to_numpy()) == pytest.approx(
        {"North-west": 76.8, "North-east": 51.2, "South-west": 115.2, "South-east": 76.8}
    )
    assert tables["stratified"]["stratum"].value_counts().tolist() == [10] * 4
    east = tables["stratified"]["stratum"].str.endswith("east")
    assert (tables["stratified"].loc[east, "x"] >= 401_200).all()
    assert tables["cluster"]["cluster"].value_counts().tolist() == [4] * 10


def test_municipalities_know_their_truth(region):
    _, areas = simulate_plots(region, 40, 1)
    first = areas["features"][0]
    assert len(areas["features"]) == 16
    assert first["properties"]["name"] == "A1"
    assert first["properties"]["true_mean_mg_per_ha"] == 49.0  # 0 to 98 in steps of 2
    assert first["properties"]["true_total_mg"] == 49.0 * 20
    assert first["geometry"]["coordinates"][0][2] == [400_500.0, 6_899_600.0]
