"""Simulated plots to totals, by the real command line."""

import json

import pandas as pd
import pytest
import rasterio

pytestmark = pytest.mark.slow
RESULTS = {"estimators.png", "page.html", "plots_with_map.csv", "totals.json", "totals_by_area.csv"}


@pytest.fixture(scope="module")
def region(project, kedro, optional):
    for name in ("exactextract", "geopandas", "statsmodels"):
        optional(name)
    result = kedro("run", "--env", "test", "--pipelines", "region_simulation")
    assert result.returncode == 0, result.stdout + result.stderr
    with rasterio.open(project / "data/01_raw/test_region/agb.tif") as file:
        values, profile = file.read(1), file.profile
    with rasterio.open(project / "data/map.tif", "w", **profile) as file:
        file.write(0.8 * values + 10, 1)
    return values


def run(kedro, *params):
    given = ["plot_map=data/map.tif", "plots.crs=EPSG:3067", *params]
    return kedro("run", "--env", "test", "--pipelines", "plots", "--params", ",".join(given))


def test_three_designs(project, kedro, region):
    folder = "data/01_raw/test_plots"
    for design, params in (
        ("simple random", ["plots.areas=" + folder + "/municipalities.geojson"]),
        (
            "stratified",
            [f"plots_file={folder}/stratified.csv", "plots.columns.stratum=stratum",
             f"plots.strata={folder}/strata.csv"],
        ),
        ("cluster", [f"plots_file={folder}/cluster.csv", "plots.columns.cluster=cluster"]),
    ):  # fmt: skip
        result = run(kedro, *params)
        assert result.returncode == 0, result.stdout + result.stderr
        place = project / "data/08_reporting/test/plots"
        assert {path.name for path in place.iterdir()} == RESULTS
        account = json.loads((place / "totals.json").read_text())
        assert account["design"] == design
        greg = account["estimates"]["greg"]
        # The map is a line of the truth but for pixels that footprints cut.
        assert abs(greg["mean_agb_mg_per_ha"] - region.mean()) < 0.15 * region.mean()
        assert greg["relative_efficiency"] > 5
        areas = pd.read_csv(place / "totals_by_area.csv")
        assert (len(areas) > 0) == (design == "simple random")


def test_bad_input_is_one_sentence(project, kedro, region):
    for params, sentence in (
        (["plot_map=nowhere.tif"], "There is no map nowhere.tif: give one with"),
        (["plots_file=nowhere.csv"], "nowhere.csv; give it with '--params plots_file=PATH'"),
        (["plots.areas=nowhere.gpkg"], "plots.areas: there is no file nowhere.gpkg"),
        (["plots.crs=EPSG:32633"], "check plots.crs"),
        (["plots.outside=ignore"], "plots.outside"),
    ):
        result = run(kedro, *params)
        assert result.returncode == 1
        assert sentence in result.stderr.strip().splitlines()[-1]
        assert "Traceback" not in result.stderr + result.stdout


def test_change_of_two_maps(project, kedro, region):
    with rasterio.open(project / "data/map.tif") as file:
        agb, profile = file.read(1), file.profile
    profile |= {"count": 3}
    for name, more in (("before", 0), ("after", 10)):
        with rasterio.open(project / f"data/{name}.tif", "w", **profile) as file:
            for band, side in enumerate((0, -5, 5), 1):
                file.write(agb + more + side, band)
    maps = "map_before=data/before.tif,map_after=data/after.tif,change_map=data/out/change.tif"
    result = kedro("run", "--env", "test", "--pipelines", "change", "--params", maps)
    assert result.returncode == 1
    assert "change.error_correlation" in result.stderr.strip().splitlines()[-1]
    assert not (project / "data/out/change.tif").exists()
    stated = (
        ",change.error_correlation=0.5,change.areas=data/01_raw/test_plots/municipalities.geojson"
    )
    result = kedro("run", "--env", "test", "--pipelines", "change", "--params", maps + stated)
    assert result.returncode == 0, result.stdout + result.stderr
    totals = json.loads((project / "data/out/change.tif.totals.json").read_text())
    assert totals["net_mg"] == pytest.approx(10 * totals["area_ha"], rel=1e-4)
    assert totals["gain_mg"] == pytest.approx(totals["net_mg"])
    assert totals["loss_mg"] == 0
    areas = pd.read_csv(project / "data/out/change.tif.by_area.csv")
    assert areas["net_mg"][1:].sum() == pytest.approx(areas["net_mg"][0], rel=1e-4)
