"""Regression estimators: the Swiss plots' published figures, and cases worked by hand."""

import numpy as np
import pandas as pd
import pytest

from biomassters.errors import BadInputError
from biomassters.plots.regression import (
    Means,
    difference_estimate,
    join_classes,
    post_stratified_estimate,
    regression_estimate,
    with_intercept,
)
from biomassters.plots.sampling_design import SamplingDesign, plots_only

HEIGHTS = ["mean", "stddev", "max", "q75"]


@pytest.fixture(scope="module")
def grisons(field_plots):
    """All plots, those with timber volume, and this, m³/ha."""
    every = pd.read_csv(field_plots / "grisons.csv")
    measured = every[every["phase_id_2p"] == 2]
    return every, measured, measured["tvol"].to_numpy()


def six(value):
    """To the six digits that the figures have."""
    return pytest.approx(value, rel=1e-6)


def test_swiss_field_plots_alone(grisons):
    _, _, volume = grisons
    found = plots_only(SamplingDesign.of(len(volume)), volume)
    assert found.mean == six(399.4321)
    assert found.details["variance"] == six(567.2001)


@pytest.mark.parametrize(
    ("names", "means", "mean", "external", "g_weight", "r_squared"),
    [
        (["mean"], [11.39], 383.1964, 282.2066, 272.2454, 0.5025),
        (HEIGHTS, [11.39, 8.84, 32.68, 18.03], 376.7426, 202.5602, 187.2787, 0.6429),
    ],
)
def test_swiss_regression_on_true_means(grisons, names, means, mean, external, g_weight, r_squared):
    _, measured, volume = grisons
    found = regression_estimate(
        "greg", SamplingDesign.of(len(volume)), volume, with_intercept(measured, names),
        Means.true([1, *means]),
    )  # fmt: skip
    assert found.mean == six(mean)
    assert found.details["external_variance"] == six(external)
    assert found.details["g_weight_variance"] == six(g_weight)
    assert found.details["r_squared"] == pytest.approx(r_squared, abs=5e-5)


def test_swiss_regression_on_means_of_the_first_phase(grisons):
    every, measured, volume = grisons
    means = Means.of_sample(
        SamplingDesign.of(len(every)), with_intercept(every, HEIGHTS),
        every["boundary_weights"].to_numpy(),
    )  # fmt: skip
    found = regression_estimate(
        "greg", SamplingDesign.of(len(volume)), volume, with_intercept(measured, HEIGHTS), means
    )
    assert found.mean == six(383.5354)
    assert found.details["external_variance"] == six(279.954)
    assert found.details["g_weight_variance"] == six(271.5057)


def test_a_line_by_hand():
    """y = 1, 3, 5, 8 at x = 0, 1, 2, 3: slope 2.3, intercept 0.8; residuals .2, −.1, −.4, .3."""
    y, x = np.array([1.0, 3, 5, 8]), np.array([0.0, 1, 2, 3])
    design = SamplingDesign.of(4)
    covariates = np.column_stack([np.ones(4), x])
    found = regression_estimate("greg", design, y, covariates, Means.true([1, 2.0]))
    assert found.mean == pytest.approx(0.8 + 2.3 * 2)
    residuals = np.array([0.2, -0.1, -0.4, 0.3])
    assert found.details["external_variance"] == pytest.approx((residuals**2).sum() / 3 / 4)
    g = 1 + (x - 1.5) * (2.0 - 1.5) / 1.25
    assert found.details["g_weight_variance"] == pytest.approx(((g * residuals) ** 2).sum() / 16)
    assert found.standard_error**2 == pytest.approx(((g * residuals) ** 2).sum() / 4 / 2)
    assert found.degrees_of_freedom == 2
    model = regression_estimate(
        "model_based", design, y, covariates, Means.true([1, 2.0]), probability_sample=False
    )
    leverage = 1 / 4 + (x - 1.5) ** 2 / 5
    hc3 = ((g * residuals / (1 - leverage)) ** 2).sum() / 16
    assert model.mean == found.mean
    assert model.standard_error**2 == pytest.approx(hc3)


def test_the_difference_by_hand():
    """Plots 10, 20, 40 where the map has 12, 21, 36: 50 − mean of 2, 1, −4."""
    found = difference_estimate(
        SamplingDesign.of(3), np.array([10.0, 20, 40]), np.array([12.0, 21, 36]), 50.0
    )
    assert found.mean == pytest.approx(50 + 1 / 3)
    assert found.standard_error**2 == pytest.approx(np.var([-2, -1, 4], ddof=1) / 3)


def test_post_strata_by_hand():
    """Means 2 and 10, shares 0.9 and 0.1; the third class has one plot and joins the second."""
    y, classes = np.array([1.0, 3, 9, 11, 10]), np.array([0, 0, 1, 1, 2])
    found = post_stratified_estimate(
        SamplingDesign.of(5), y, classes, np.array([0.9, 0.06, 0.04]), ["a", "b", "c"]
    )
    assert found.mean == pytest.approx(0.9 * 2 + 0.1 * 10)
    squares = (0.9 / 2) ** 2 * 2 + (0.1 / 3) ** 2 * 2
    assert found.standard_error**2 == pytest.approx(squares * 5 / 3)
    assert [row["class"] for row in found.details["classes"]] == ["a", "b + c"]
    assert [row["plots"] for row in found.details["classes"]] == [2, 3]


@pytest.mark.parametrize(
    ("counts", "joined"),
    [
        ([3, 3, 3], [0, 1, 2]),
        ([0, 0, 4], [0, 0, 0]),
        ([0, 5, 1, 7], [0, 0, 0, 1]),
        ([4, 1], [0, 0]),
        ([1, 1, 1], [0, 0, 0]),
    ],
)
def test_classes_with_too_few_plots_join_their_neighbours(counts, joined):
    assert join_classes(np.array(counts), 2).tolist() == joined


def test_what_can_not_be_fitted_is_refused():
    design, y = SamplingDesign.of(3), np.array([1.0, 2, 4])
    with pytest.raises(BadInputError, match="constant or collinear"):
        regression_estimate("greg", design, y, np.ones((3, 2)), Means.true([1, 1]))
    with pytest.raises(BadInputError, match="3 plots are too few for 2 covariates"):
        regression_estimate("greg", design, y, np.eye(3), Means.true([1, 1, 1]))
    table = pd.DataFrame({"height": [1.0, np.nan], "cover": [1.0, 2.0]})
    with pytest.raises(BadInputError, match="Values of height are missing"):
        with_intercept(table, ["height", "cover"])
