"""Plots, areas and maps brought together: totals by hand, tables instead of a map, bad input."""

import json

import numpy as np
import pandas as pd
import pytest

from biomassters.errors import BadInputError
from biomassters.plots.inventory import (
    estimate_areas,
    estimate_totals,
    take_inventory,
)
from biomassters.plots.options import PlotsOptions
from biomassters.plots.plot_page import (
    draw_areas,
    draw_estimates,
    draw_validation,
    render_inventory,
)
from biomassters.plots.plot_table import read_areas, read_plots, read_strata

from .conftest import NORTH, PIXEL, WEST

SIDE = 40
PLACES = [(4, 4), (14, 6), (25, 5), (34, 8), (6, 16), (16, 17), (26, 14), (35, 15), (5, 27),
          (15, 25), (24, 28), (36, 26), (4, 36), (14, 34), (27, 35), (34, 33)]  # fmt: skip


@pytest.fixture(autouse=True)
def _needs_more_packages(optional):
    for name in ("exactextract", "geopandas", "statsmodels"):
        optional(name)


@pytest.fixture
def truth():
    row, column = np.mgrid[:SIDE, :SIDE]
    return (60 + 3.0 * column + 10 * np.sin(row)).astype(np.float32)


@pytest.fixture
def map_path(write_map, truth):
    """Half of the truth, and 5 too much."""
    return write_map(0.5 * truth + 5)


@pytest.fixture
def plots_path(write_plots, truth):
    """Plots of less than a pixel, in the middles of pixels."""
    column, row = np.array(PLACES).T
    return write_plots(
        {
            "column": column + 0.5, "row": row + 0.5, "agb_mg_per_ha": truth[row, column],
            "plot_area_m2": 50.0, "date": 2021,
        }
    )  # fmt: skip


def inventory(plots_path, map_path, areas=None, strata=None, **stated):
    options = PlotsOptions.model_validate({"crs": "EPSG:3067", "jitter": {"draws": 2}} | stated)
    return (
        take_inventory(
            read_plots(plots_path, options),
            map_path,
            None if areas is None else read_areas(areas, options),
            None if strata is None else read_strata(strata, options),
            options,
        ),
        options,
    )


def squares(tmp_path, names="abcd"):
    half = SIDE * PIXEL / 2
    features = []
    for number, name in enumerate(names):
        west, north = WEST + half * (number % 2), NORTH - half * (number // 2)
        ring = [
            [west, north], [west + half, north], [west + half, north - half],
            [west, north - half], [west, north],
        ]  # fmt: skip
        features.append(
            {
                "type": "Feature",
                "properties": {"name": name},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        )
    path = tmp_path / "areas.geojson"
    crs = {"type": "name", "properties": {"name": "EPSG:3067"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    return path


def test_a_regression_finds_a_map_that_is_a_line_of_the_truth(plots_path, map_path, truth):
    found, options = inventory(plots_path, map_path)
    account = estimate_totals(found, options)
    json.dumps(account, allow_nan=False)
    greg = account["estimates"]["greg"]
    assert account["chosen"] == "greg"
    assert account["design"] == "simple random"
    assert greg["mean_agb_mg_per_ha"] == pytest.approx(truth.mean(), rel=1e-5)
    assert greg["standard_error_mg_per_ha"] == pytest.approx(0, abs=1e-3)
    assert account["area_ha"] == pytest.approx(SIDE**2 / 100, rel=2e-3)
    assert greg["biomass_mg"] == pytest.approx(truth.mean() * account["area_ha"], rel=1e-5)
    map_only = account["estimates"]["map_only"]
    assert map_only["mean_agb_mg_per_ha"] == pytest.approx(truth.mean() / 2 + 5, rel=1e-5)
    assert map_only["biomass_mg_lower"] is None
    values = np.array([truth[row, column] for column, row in PLACES], float)
    difference = account["estimates"]["difference"]
    assert difference["mean_agb_mg_per_ha"] == pytest.approx(
        truth.mean() / 2 + 5 + (values / 2 - 5).mean(), rel=1e-5
    )
    scores = account["validation"]["all"]
    assert scores["bias_mg_per_ha"] == pytest.approx((5 - values / 2).mean(), rel=1e-5)
    assert scores["r_squared"] == pytest.approx(1.0)
    assert len(account["validation"]["jitter"]["rmse_mg_per_ha"]) == 2


def test_totals_by_area_and_the_page(plots_path, map_path, truth, tmp_path):
    found, options = inventory(
        plots_path, map_path, squares(tmp_path), small_areas={"extended_from": 4}
    )
    areas = estimate_areas(found, options)
    chosen = areas[areas["chosen"]].set_index("area")
    half = SIDE // 2
    assert chosen.loc["b", "mean_agb_mg_per_ha"] == pytest.approx(
        truth[:half, half:].mean(), rel=1e-4
    )
    assert chosen["plots_in_area"].tolist() == [4, 4, 4, 4]
    assert set(chosen["estimator"]) == {"extended_synthetic"}
    assert chosen["biomass_mg"].sum() == pytest.approx(
        truth.mean() * chosen["area_ha"].sum(), rel=1e-4
    )
    account = estimate_totals(found, options)
    page = render_inventory(account, areas, found.plots)
    assert "Plots alone" in page
    assert page.count("<svg") == 3
    assert "NaN" not in page
    for figure in (
        draw_estimates(account), draw_areas(areas, 0.9), draw_validation(found.plots)
    ):  # fmt: skip
        assert figure.axes


def test_strata_from_a_table(write_plots, truth, map_path, tmp_path):
    column, row = np.array(PLACES).T
    plots = write_plots(
        {
            "column": column + 0.5, "row": row + 0.5, "agb_mg_per_ha": truth[row, column],
            "plot_area_m2": 50.0, "side": np.where(column < 20, "west", "east"),
        }
    )  # fmt: skip
    strata = tmp_path / "strata.csv"
    strata.write_text("side,area_ha\nwest,8\neast,8\n")
    stated = {"columns": {"stratum": "side"}}
    found, options = inventory(plots, map_path, strata=strata, **stated)
    account = estimate_totals(found, options)
    assert account["design"] == "stratified"
    values = truth[row, column].astype(float)
    west = column < 20
    assert account["estimates"]["plots_only"]["mean_agb_mg_per_ha"] == pytest.approx(
        (values[west].mean() + values[~west].mean()) / 2, rel=1e-6
    )
    with pytest.raises(BadInputError, match=r"give a table of them with plots.strata"):
        inventory(plots, map_path, **stated)


def test_plots_that_chance_did_not_choose(plots_path, map_path, truth):
    found, options = inventory(plots_path, map_path, probability_sample=False)
    account = estimate_totals(found, options)
    assert account["chosen"] == "model_based"
    assert account["design"] == "no probability sample"
    assert "greg" not in account["estimates"]
    page = render_inventory(account, estimate_areas(found, options), found.plots)
    assert "The plots are no probability sample" in page


def test_plots_outside(write_plots, map_path):
    plots = write_plots(
        {"column": [1.5, 5.5, 9.5, 60.0], "row": [1.5, 3.5, 7.5, 2.0],
         "agb_mg_per_ha": [1.0, 2, 4, 3], "plot_area_m2": 50.0}
    )  # fmt: skip
    with pytest.raises(BadInputError, match="1 plot of 4 lie outside the map, the first in row 4"):
        inventory(plots, map_path)
    found, _ = inventory(plots, map_path, outside="drop")
    assert len(found.plots) == 3
    assert any("1 plot without a value" in sentence for sentence in found.warnings)
    with pytest.raises(BadInputError, match=r"No plot lies on .*check plots.crs"):
        inventory(plots, map_path, crs="EPSG:3006")


def test_a_map_of_ours_brings_its_own_interval(plots_path, map_path):
    area_ha = estimate_totals(*inventory(plots_path, map_path))["area_ha"]
    summary = {
        "area_ha": area_ha,
        "mean_agb_mg_per_ha": 70.0,
        "mean_agb_standard_error_mg_per_ha": 4.0,
    }
    map_path.with_name(map_path.name + ".summary.json").write_text(json.dumps(summary))
    account = estimate_totals(*inventory(plots_path, map_path))
    row = account["estimates"]["map_only"]
    assert row["mean_agb_mg_per_ha"] == 70.0
    assert row["upper_mg_per_ha"] == pytest.approx(70 + 4 * 1.6449, rel=1e-4)


# ---- Without a raster


def tables(tmp_path, field_plots, areas: str, **stated):
    path = tmp_path / "areas.csv"
    path.write_text(areas)
    columns = {"agb": "tvol", "phase": "phase_id_2p", "boundary_weight": "boundary_weights"}
    options = PlotsOptions.model_validate(
        {
            "columns": columns | stated.pop("columns", {}),
            "covariates": ["mean", "stddev", "max", "q75"],
        }
        | stated
    )
    plots = read_plots(field_plots / "grisons.csv", options)
    found = take_inventory(
        plots, tmp_path, read_areas(path, options) if areas else None, None, options
    )
    return found, options


def test_swiss_tables_with_true_means(tmp_path, field_plots):
    means = "name,mean,stddev,max,q75\nall,11.39,8.84,32.68,18.03\n"
    account = estimate_totals(*tables(tmp_path, field_plots, means))
    greg = account["estimates"]["greg"]
    assert not account["two_phase"]
    assert greg["mean_agb_mg_per_ha"] == pytest.approx(376.7426, rel=1e-6)
    assert greg["g_weight_variance"] == pytest.approx(187.2787, rel=1e-6)
    assert account["area_ha"] is None
    assert "biomass_mg" not in greg


def test_swiss_tables_with_a_first_phase(tmp_path, field_plots):
    found, options = tables(tmp_path, field_plots, "")
    account = estimate_totals(found, options)
    greg = account["estimates"]["greg"]
    assert account["two_phase"]
    assert greg["mean_agb_mg_per_ha"] == pytest.approx(383.5354, rel=1e-6)
    assert greg["external_variance"] == pytest.approx(279.954, rel=1e-6)
    assert greg["g_weight_variance"] == pytest.approx(271.5057, rel=1e-6)
    assert estimate_areas(found, options).empty


def test_swiss_small_areas_from_tables(tmp_path, field_plots):
    areas = "smallarea,area_ha\nA,10\nB,20\nC,30\nD,40\n"
    found, options = tables(tmp_path, field_plots, areas, columns={"area": "smallarea"})
    chosen = estimate_areas(found, options)
    chosen = chosen[chosen["chosen"]].set_index("area")
    assert chosen["mean_agb_mg_per_ha"].to_dict() == pytest.approx(
        {"A": 391.9356, "B": 419.7231, "C": 328.8600, "D": 373.9497}, rel=1e-6
    )
    assert chosen["g_weight_variance"].to_dict() == pytest.approx(
        {"A": 1017.633, "B": 1019.191, "C": 1036.791, "D": 1110.245}, rel=1e-6
    )
    assert chosen.loc["B", "biomass_mg"] == pytest.approx(20 * 419.7231, rel=1e-6)


def test_means_that_nobody_knows(write_plots, tmp_path):
    path = write_plots({"agb_mg_per_ha": [1.0, 2, 3, 5], "h": [1.0, 2, 4, 4], "a": list("ppqq")})
    areas = tmp_path / "areas.csv"
    areas.write_text("a,area_ha\np,1\nq,2\n")
    with pytest.raises(BadInputError, match="The mean of h is known nowhere"):
        inventory(path, tmp_path, areas, covariates=["h"], columns={"area": "a"})
    areas.write_text("a,h\np,1\nq,2\n")
    with pytest.raises(BadInputError, match="Means of the whole area are not known"):
        inventory(path, tmp_path, areas, covariates=["h"], columns={"area": "a"})
    areas.write_text("a,h\np,1\nall,2\n")
    found, options = inventory(path, tmp_path, areas, covariates=["h"], columns={"area": "a"})
    with pytest.raises(BadInputError, match="Plots lie in area q"):
        estimate_areas(found, options)


def test_inclusion_probabilities_that_do_not_add_up(write_plots, map_path):
    column, row = np.array(PLACES).T
    plots = write_plots(
        {"column": column + 0.5, "row": row + 0.5, "agb_mg_per_ha": 5.0 + column,
         "plot_area_m2": 100.0, "p": 0.5}
    )  # fmt: skip
    with pytest.raises(BadInputError, match=r"add up to 0 ha .* but the area has 16 ha"):
        inventory(plots, map_path, columns={"inclusion_probability": "p"})
    rows = pd.read_csv(plots).assign(p=0.01)
    rows.to_csv(plots, index=False)
    found, options = inventory(plots, map_path, columns={"inclusion_probability": "p"})
    assert estimate_totals(found, options)["plots"] == 16
