"""Tables of plots, areas and strata: every format, and what can't be."""

import json

import numpy as np
import pandas as pd
import pytest
from rasterio.crs import CRS

from biomassters.errors import BadInputError
from biomassters.plots.options import PlotsOptions
from biomassters.plots.plot_table import read_areas, read_plots, read_strata

GOOD = {
    "x": [1.0, 2, 3], "y": [1.0, 1, 1], "agb_mg_per_ha": [10.0, 0, 300],
    "plot_area_m2": [250.0, 250, 500], "date": ["2020-07-01", "2021-06-15", "2023-08-30"],
}  # fmt: skip


def options(**values) -> PlotsOptions:
    return PlotsOptions.model_validate({"crs": "EPSG:3067"} | values)


def test_a_csv(write_plots):
    found = read_plots(write_plots(GOOD), options())
    assert found.table["agb"].tolist() == [10, 0, 300]
    assert found.table["year"].tolist() == [2020, 2021, 2023]
    assert found.crs.to_epsg() == 3067
    assert found.measured.all()
    assert found.warnings == ()


def test_other_names_and_what_all_share(write_plots):
    path = write_plots({"e": [1.0, 2], "n": [3.0, 4], "t_ha": [5, 6], "when": [2019, 2020]})
    found = read_plots(
        path,
        options(
            plot_area_m2=100.0,
            columns={"x": "e", "y": "n", "agb": "t_ha", "date": "when", "plot_area_m2": None},
        ),
    )
    assert found.table.drop(columns="agb").to_dict("list") == {
        "x": [1, 2], "y": [3, 4], "year": [2019, 2020], "plot_area_m2": [100, 100],
    }  # fmt: skip


def test_parquet_and_geopackage_say_the_same(write_plots, tmp_path, optional):
    geopandas = optional("geopandas")
    table = pd.DataFrame(GOOD)
    table.to_parquet(tmp_path / "plain.parquet")
    points = geopandas.GeoDataFrame(
        table.drop(columns=["x", "y"]), geometry=geopandas.points_from_xy(table["x"], table["y"]),
        crs="EPSG:3067",
    )  # fmt: skip
    points.to_file(tmp_path / "plots.gpkg")
    points.to_parquet(tmp_path / "geo.parquet")
    expected = read_plots(write_plots(GOOD), options()).table
    for name in ("plain.parquet", "plots.gpkg", "geo.parquet"):
        stated = options(crs="EPSG:3067" if name == "plain.parquet" else None)
        found = read_plots(tmp_path / name, stated)
        assert found.crs == CRS.from_epsg(3067)
        pd.testing.assert_frame_equal(
            found.table[expected.columns], expected, check_dtype=False, check_exact=False
        )


def test_plots_of_other_years_are_warned_of(write_plots):
    (sentence,) = read_plots(write_plots(GOOD), options(map_year=2021)).warnings
    assert "2 plots of 3 were measured in another year than the map's 2021" in sentence
    assert "up to 2 years away (1.0 on average)" in sentence


def test_a_first_phase_has_no_biomass(write_plots):
    path = write_plots({"phase_id": [1, 2, 1], "agb_mg_per_ha": [5.0, 7, np.nan], "h": [1, 2, 3]})
    found = read_plots(path, PlotsOptions(covariates=("h",), columns={"phase": "phase_id"}))
    assert found.measured.tolist() == [False, True, False]
    assert found.covariates["h"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("changed", "stated", "sentence"),
    [
        ({"agb_mg_per_ha": [1.0, -2, 3]}, {}, "row 2 has negative biomass: mend it"),
        ({"agb_mg_per_ha": [1.0, np.nan, 3]}, {}, "row 2 has no biomass"),
        ({"agb_mg_per_ha": ["1", "x", "3"]}, {}, "agb_mg_per_ha of row 2 is 'x': give a number"),
        ({"x": [1.0, 1, 3]}, {}, "row 1 and 1 other share a place"),
        ({"x": [1.0, np.nan, 3]}, {}, "row 2 has no place"),
        ({"plot_area_m2": [1.0, 2, 0]}, {}, "row 3 has no plot area"),
        ({"date": ["2020", "so", "2021"]}, {}, "date of row 2 is 'so': give dates as"),
        ({}, {"crs": None}, "doesn't say which coordinate system"),
        ({}, {"columns": {"agb": "agbd"}}, r"has no column agbd \(plots.columns.agb\)"),
        ({}, {"columns": {"stratum": "s"}}, r"no column s \(plots.columns.stratum\)"),
        ({"p": [0.1, 0, 0.1]}, {"columns": {"inclusion_probability": "p"}}, "row 2 has an imposs"),
        ({"s": ["a", None, "b"]}, {"columns": {"stratum": "s"}}, "row 2 has no stratum"),
        ({}, {"covariates": ["height"]}, "plots.covariates: .* has no column height"),
    ],
)
def test_what_can_not_be_is_refused(write_plots, changed, stated, sentence):
    with pytest.raises(BadInputError, match=sentence) as caught:
        read_plots(write_plots(GOOD | changed), options(**stated))
    assert "\n" not in str(caught.value)


def test_no_coordinates(write_plots):
    path = write_plots({name: GOOD[name] for name in GOOD if name not in "xy"})
    with pytest.raises(BadInputError, match="has no column x and y: name the coordinates' columns"):
        read_plots(path, options())


def test_files_that_are_none(tmp_path):
    for name, content, sentence in (
        ("plots.xlsx", b"", "is none of .csv"),
        ("plots.gpkg", b"<OGRVRTDataSource>", "is no GeoPackage"),
        ("plots.parquet", b"no", "can't be read"),
        ("plots.csv", b"", "can't be read"),
        ("plots.geojson", b"{}", "can't be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInputError, match=sentence):
            read_plots(tmp_path / name, options())
    with pytest.raises(BadInputError, match="No such file"):
        read_plots(tmp_path / "none.csv", options())


def geojson(names, crs="urn:ogc:def:crs:EPSG::3067"):
    ring = [[0, 0], [0, 1], [1, 1], [0, 0]]
    return {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": crs}},
        "features": [
            {
                "type": "Feature",
                "properties": {"name": name},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
            for name in names
        ],
    }


def test_areas_as_polygons_and_as_a_table(tmp_path, optional):
    optional("geopandas")
    path = tmp_path / "areas.geojson"
    path.write_text(json.dumps(geojson(["a", "b"])))
    found = read_areas(path, PlotsOptions())
    assert found.table.index.tolist() == ["a", "b"]
    assert len(found.polygons) == 2
    assert found.crs.to_epsg() == 3067
    plain = tmp_path / "areas.csv"
    plain.write_text("area,area_ha,h\na,10,1.5\nb,20,2.5\n")
    found = read_areas(plain, PlotsOptions(covariates=("h",)))
    assert found.polygons is None
    assert found.table["h"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("area,area_ha\na,1\na,2\n", "two areas a: merge"),
        ("area,area_ha\na,0\n", "area_ha of row 1 is 0: give one above 0"),
        ("zone,area_ha\na,1\n", "no column name with the areas' names"),
    ],
)
def test_areas_that_can_not_be(tmp_path, text, sentence):
    path = tmp_path / "areas.csv"
    path.write_text(text)
    with pytest.raises(BadInputError, match=sentence):
        read_areas(path, PlotsOptions())


def test_strata(tmp_path):
    path = tmp_path / "strata.csv"
    path.write_text("zone,area_ha\nnorth,10\nsouth,5.5\n")
    stated = PlotsOptions(columns={"stratum": "zone"})
    assert read_strata(path, stated) == {"north": 10.0, "south": 5.5}
    with pytest.raises(BadInputError, match="needs a column area_ha"):
        read_strata(path, PlotsOptions(columns={"stratum": "district"}))
