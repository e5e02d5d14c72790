"""Small areas: the Swiss figures, a balanced mixed model by hand, and what few plots allow."""

import numpy as np
import pandas as pd
import pytest

from biomassters.errors import BadInputError
from biomassters.plots.options import SmallAreaOptions
from biomassters.plots.regression import Means, with_intercept
from biomassters.plots.sampling_design import SamplingDesign
from biomassters.plots.small_areas import MixedModel, estimate_small_areas

HEIGHTS = ["mean", "stddev", "max", "q75"]
SWISS = {
    "A": (391.9356, 1017.633),
    "B": (419.7231, 1019.191),
    "C": (328.8600, 1036.791),
    "D": (373.9497, 1110.245),
}


def test_swiss_small_areas(field_plots, optional):
    optional("statsmodels")
    every = pd.read_csv(field_plots / "grisons.csv")
    measured = every[every["phase_id_2p"] == 2]
    means = {
        name: Means.of_sample(
            SamplingDesign.of(len(part)), with_intercept(part, HEIGHTS),
            part["boundary_weights"].to_numpy(),
        )
        for name, part in every.groupby("smallarea")
    }  # fmt: skip
    found = estimate_small_areas(
        SamplingDesign.of(len(measured)), measured["tvol"].to_numpy(),
        with_intercept(measured, HEIGHTS), measured["smallarea"].to_numpy(), means,
        SmallAreaOptions(),
    )  # fmt: skip
    for name, (mean, variance) in SWISS.items():
        estimate = found[name]["chosen"]
        assert estimate.estimator == "extended_synthetic"
        assert estimate.mean == pytest.approx(mean, rel=1e-6)
        assert estimate.details["g_weight_variance"] == pytest.approx(variance, rel=1e-6)


@pytest.fixture(scope="module")
def balanced():
    """Six areas of four plots, no covariate: REML gives the variances of a one-way ANOVA."""
    generator = np.random.default_rng(3)
    areas = np.repeat(np.arange(6), 4)
    values = 100 + generator.normal(0, 15, 6)[areas] + generator.normal(0, 10, 24)
    return values, np.ones((24, 1)), areas


def test_a_balanced_mixed_model_by_hand(balanced, optional):
    optional("statsmodels")
    values, ones, areas = balanced
    by_area = values.reshape(6, 4)
    within = by_area.var(axis=1, ddof=1).mean()
    between = by_area.mean(axis=1).var(ddof=1) - within / 4
    model = MixedModel.fit(values, ones, areas)
    assert model.within == pytest.approx(within, rel=1e-5)
    assert model.between == pytest.approx(between, rel=1e-5)
    assert model.coefficients[0] == pytest.approx(values.mean(), rel=1e-9)
    gamma = between / (between + within / 4)
    found = model.estimate(by_area[2], ones[:4], Means.true([1.0]))
    assert found.mean == pytest.approx(
        (1 - gamma) * values.mean() + gamma * by_area[2].mean(), rel=1e-6
    )
    # g2: (1 - γ)² times the variance of the general mean, of six areas' means.
    first, second, third = found.details["mse_parts"]
    assert first == pytest.approx(gamma * within / 4, rel=1e-5)
    assert second == pytest.approx((1 - gamma) ** 2 * (between + within / 4) / 6, rel=1e-5)
    # g3 of the balanced case, twice: Var(σe²) = 2 σe⁴ / 18, Var(σv² + σe² / 4) = 2 (…)² / 6.
    whole = between + within / 4
    v_e, v_w = 2 * within**2 / 18, 2 * whole**2 / 6
    v_v, v_ve = v_w + v_e / 16, -v_e / 4
    h = within**2 * v_v + between**2 * v_e - 2 * within * between * v_ve
    assert third == pytest.approx(2 * h / (16 * whole**3), rel=1e-4)


def test_an_area_without_plots_gets_the_models_synthetic_part(balanced, optional):
    optional("statsmodels")
    values, ones, areas = balanced
    names = areas.astype(str)
    means = {str(n): Means.true([1.0]) for n in range(7)}
    found = estimate_small_areas(
        SamplingDesign.of(24), values, ones, names, means, SmallAreaOptions(extended_from=5)
    )
    empty = found["6"]["chosen"]
    assert (empty.estimator, empty.plots) == ("synthetic_mixed_model", 0)
    assert empty.mean == pytest.approx(values.mean())
    assert "plots_only" not in found["6"]
    few = found["0"]["chosen"]
    assert (few.estimator, few.plots) == ("eblup", 4)
    # An area without plots is known less well than one with some.
    assert empty.standard_error > few.standard_error


def test_no_variance_between_areas_is_an_answer(optional):
    optional("statsmodels")
    values = np.tile([90.0, 110, 95, 105], 5)
    model = MixedModel.fit(values, np.ones((20, 1)), np.repeat(np.arange(5), 4))
    assert model.between == pytest.approx(0, abs=1e-3 * model.within)
    found = model.estimate(values[:4], np.ones((4, 1)), Means.true([1.0]))
    assert found.mean == pytest.approx(100.0)


def test_too_few_areas_for_a_mixed_model():
    assert MixedModel.fit(np.arange(8.0), np.ones((8, 1)), np.repeat([0, 1], 4)) is None
    values, covariates = np.arange(8.0), np.column_stack([np.ones(8), np.arange(8.0) ** 2])
    found = estimate_small_areas(
        SamplingDesign.of(8), values, covariates, np.repeat(["a", "b"], 4),
        {"a": Means.true([1, 3.0]), "b": Means.true([1, 30.0]), "c": Means.true([1, 9.0])},
        SmallAreaOptions(),
    )  # fmt: skip
    assert found["c"]["chosen"].estimator == "synthetic"
    assert "model_assisted" in found["a"]


def test_an_unknown_area_is_refused():
    with pytest.raises(BadInputError, match="Plots lie in area z"):
        estimate_small_areas(
            SamplingDesign.of(2), np.ones(2), np.ones((2, 1)), np.array(["z", "z"]), {},
            SmallAreaOptions(),
        )  # fmt: skip


def test_an_unbalanced_mixed_model_is_at_the_optimum(optional):
    """The REML criterion (Patterson & Thompson 1971) falls off on both sides of each variance."""
    optional("statsmodels")
    generator = np.random.default_rng(5)
    counts = generator.integers(1, 12, 14)
    areas = np.repeat(np.arange(14), counts)
    x = generator.uniform(20, 200, len(areas))
    values = 0.8 * x + generator.normal(0, 15, 14)[areas] + generator.normal(0, 30, len(areas))
    covariates = np.column_stack([np.ones(len(x)), x])
    model = MixedModel.fit(values, covariates, areas)

    def criterion(between, within):
        same = areas[:, None] == areas
        v = within * np.eye(len(x)) + between * same
        inverse = np.linalg.inv(v)
        normal = covariates.T @ inverse @ covariates
        rest = values - covariates @ np.linalg.solve(normal, covariates.T @ inverse @ values)
        return (
            np.linalg.slogdet(v)[1] + np.linalg.slogdet(normal)[1] + rest @ inverse @ rest
        )  # fmt: skip

    best = criterion(model.between, model.within)
    for factor in (0.999, 1.001):
        assert criterion(model.between * factor, model.within) > best
        assert criterion(model.between, model.within * factor) > best
