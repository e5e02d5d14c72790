"""Change between two maps, by hand: pixels, totals, correlation from plots."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from biomassters.errors import BadInputError
from biomassters.plots.change import (
    ErrorCorrelation,
    draw_change,
    mean_correlation,
    settle_correlation,
    summarize_change,
    total_change,
    write_change,
)
from biomassters.plots.options import ChangeOptions, PlotsOptions
from biomassters.plots.plot_table import read_plots

from .conftest import NORTH, PIXEL, WEST

Z = 1.6448536269514722  # of 90 %


@pytest.fixture(autouse=True)
def shapely(optional):
    for name in ("exactextract", "geopandas"):
        optional(name)
    return optional("shapely")


def bands(agb, deviation):
    """A map whose 90 % interval has this standard deviation."""
    agb = np.asarray(agb, float)
    return np.stack([agb, agb - Z * deviation, agb + Z * deviation])


@pytest.fixture
def pair(write_map):
    before = write_map(bands([[100.0, 100, 50], [80, np.nan, 10]], 6.0), "before.tif")
    after = write_map(bands([[160.0, 40, 55], [80, 30, 10]], 8.0), "after.tif")
    return before, after


def test_pixels_by_hand(pair, tmp_path):
    """With r = 0.5: √(36 + 64 − 48) = 7.21."""
    place = tmp_path / "out" / "change.tif"
    write_change(*pair, place, ErrorCorrelation(0.5, "stated"), ChangeOptions())
    with rasterio.open(place) as file:
        change, error = file.read()
        assert file.descriptions == ("change", "standard_error")
    np.testing.assert_array_equal(change, [[60, -60, 5], [0, np.nan, 0]])
    assert error[0, 0] == pytest.approx(np.sqrt(52), rel=1e-5)
    assert np.isnan(error[1, 1])
    assert [path.name for path in place.parent.iterdir()] == ["change.tif"]
    assert draw_change(place).axes


def test_totals_by_hand(pair, tmp_path):
    """Five pixels of 0.01 ha: net 5; of these one gains 60 and one loses 60 beyond doubt."""
    place = tmp_path / "change.tif"
    options = ChangeOptions(correlation_range_m=1e9)
    write_change(*pair, place, ErrorCorrelation(0.5, "stated"), options)
    totals = total_change(place, None, options)
    row = totals.iloc[0]
    pixel_ha = row["area_ha"] / 5
    assert pixel_ha == pytest.approx(0.01, rel=2e-3)
    assert row["net_mg"] == pytest.approx(5 * pixel_ha, rel=1e-4)
    assert row["gain_mg"] == pytest.approx(60 * pixel_ha, rel=1e-4)
    assert row["loss_mg"] == pytest.approx(-60 * pixel_ha, rel=1e-4)
    assert row["gain_ha"] == pytest.approx(pixel_ha, rel=1e-4)
    # Errors that are alike everywhere add up as they are.
    assert row["net_standard_error_mg"] == pytest.approx(5 * np.sqrt(52) * pixel_ha, rel=1e-4)
    assert row["gain_mg_upper"] == pytest.approx((60 + Z * np.sqrt(52)) * pixel_ha, rel=1e-4)
    found = summarize_change(totals, ErrorCorrelation(0.5, "stated"), None, options)
    assert found["error_correlation_from"] == "stated"
    assert found["corrected_by_plots"] is None


def test_mean_correlation_of_a_square(shapely):
    """Two places of a square are 0.5214 sides apart on average (Santaló 1976)."""
    far = mean_correlation(shapely.box(0, 0, 100, 100), np.ones(2), 1e5)
    assert 1 - far == pytest.approx(0.5214 * 100 / 1e5, rel=0.05)
    assert mean_correlation(shapely.box(0, 0, 100, 100), np.ones(2), 0.0) == 0
    near = mean_correlation(shapely.box(0, 0, 1e4, 1e4), np.ones(2), 300.0)
    # Far from the edges 2 π range² / area.
    assert near == pytest.approx(2 * np.pi * 300**2 / 1e8, rel=0.25)
    # Degrees, or any other unit, count by their metres.
    assert mean_correlation(
        shapely.box(0, 0, 0.1, 0.1), np.array([1e5, 1e5]), 300.0
    ) == pytest.approx(near)


def test_correlation_from_plots(write_map, write_plots):
    generator = np.random.default_rng(4)
    truth = generator.uniform(50, 150, (2, 20, 20))
    truth[1] += truth[0] / 10
    shared = generator.normal(0, 10, (20, 20))
    errors = shared + generator.normal(0, 5, (2, 20, 20))
    before = write_map(bands(truth[0] + errors[0], 10.0), "before.tif")
    after = write_map(bands(truth[1] + errors[1] + 4, 10.0), "after.tif")
    column, row = np.meshgrid(np.arange(0, 20, 2), np.arange(0, 20, 2))
    column, row = column.ravel(), row.ravel()
    plots = write_plots(
        {
            "column": column + 0.5, "row": row + 0.5, "plot_area_m2": 20.0,
            "agb_mg_per_ha": truth[1, row, column], "agb_2015": truth[0, row, column],
        }
    )  # fmt: skip
    stated = PlotsOptions(crs="EPSG:3067", columns={"agb_before": "agb_2015"})
    table = read_plots(plots, stated)
    found, at_plots = settle_correlation(before, after, table, ChangeOptions())
    expected = np.corrcoef(errors[0, row, column], errors[1, row, column])[0, 1]
    assert found.value == pytest.approx(expected, abs=1e-4)
    assert found.source == "100 plots"
    totals = total_change(_written(before, after, found), None, ChangeOptions())
    corrected = summarize_change(totals, found, at_plots, ChangeOptions())["corrected_by_plots"]
    true_change = (truth[1] - truth[0]).mean()
    assert abs(corrected["net_mg_per_ha"] - true_change) < 3 * corrected["standard_error_mg_per_ha"]
    uncorrected = totals.loc[0, "net_mg"] / totals.loc[0, "area_ha"]
    assert uncorrected - true_change == pytest.approx(4, abs=1.0)


def _written(before, after, correlation):
    place = before.with_name("change.tif")
    write_change(before, after, place, correlation, ChangeOptions())
    return place


def test_what_can_not_be_compared(pair, write_map, write_plots, tmp_path):
    before, after = pair
    with pytest.raises(BadInputError, match="correlation of the two maps' errors is not known"):
        settle_correlation(before, after, None, ChangeOptions())
    plots = write_plots({"column": [0.5], "row": [0.5], "agb_mg_per_ha": 1.0, "plot_area_m2": 10.0})
    table = read_plots(plots, PlotsOptions(crs="EPSG:3067"))
    with pytest.raises(BadInputError, match=r"name plots.columns.agb_before"):
        settle_correlation(before, after, table, ChangeOptions())
    stated = ErrorCorrelation(0.5, "stated")
    for other, sentence in (
        (write_map(bands(np.ones((2, 2)), 1.0), "small.tif"), "have different grids"),
        (
            write_map(
                bands(np.ones((2, 3)), 1.0), "moved.tif",
                transform=from_origin(WEST + 5, NORTH, PIXEL, PIXEL),
            ),
            "have different grids",
        ),
        (write_map(np.ones((2, 3)), "plain.tif"), "has 1 band: change needs AGB and"),
    ):  # fmt: skip
        with pytest.raises(BadInputError, match=sentence):
            write_change(before, other, tmp_path / "no.tif", stated, ChangeOptions())
    assert not list(tmp_path.glob("no.tif*"))
