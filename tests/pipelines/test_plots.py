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
