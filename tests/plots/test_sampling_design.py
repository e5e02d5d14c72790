"""Means and variances by design: by hand, and as R's survey 4.1-1 has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from biomassters.errors import BadInputError
from biomassters.plots.regression import Means, post_stratified_estimate, regression_estimate
from biomassters.plots.sampling_design import (
    Estimate,
    SamplingDesign,
    check_inclusion,
    plots_only,
)

Y = np.array([12.5, 80.0, 140.0, 0.0, 65.5, 210.0, 155.0, 98.0, 33.0, 120.0, 77.0, 15.0])
X = np.array([20, 95, 120, 10, 70, 180, 160, 130, 40, 90, 60, 35.0])
STRATA = list("aaaaabbbbccc")
CLUSTERS = [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6]
INCLUSION = [0.02, 0.05, 0.06, 0.01, 0.04, 0.09, 0.08, 0.06, 0.02, 0.05, 0.03, 0.02]
CLASSES = np.array([0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0])
AREAS = {"a": 500.0, "b": 300.0, "c": 200.0}
DESIGNS = {
    "simple random": {},
    "stratified": {"strata": STRATA, "areas_ha": AREAS},
    "cluster": {"clusters": CLUSTERS},
    "unequal": {"inclusion": INCLUSION},
}
# svymean, calibrate(~x) and postStratify of R's survey 4.1-1 (R 4.2.2): mean and standard error.
SURVEY = {
    "simple random": [
        (83.833333333, 18.562377776), (81.410729506, 5.335258608), (78.833333333, 10.469685074),
    ],
    "stratified": [
        (81.133333333, 18.043762388), (81.039907880, 5.068151683), (76.993109197, 10.785475453),
    ],
    "cluster": [
        (83.833333333, 20.650436366), (81.410729506, 6.094198024), (78.833333333, 12.015091703),
    ],
    "unequal": [
        (48.032899246, 16.540852673), (81.043254351, 5.421507930), (69.699711531, 9.313221761),
    ],
}  # fmt: skip


def without_correction(found: Estimate, design: SamplingDesign, coefficients: int) -> float:
    """The standard error as survey has it, which takes no coefficients off the units."""
    free = len(Y) - design.strata_count
    return found.standard_error * np.sqrt((free - (coefficients - 1)) / free)


@pytest.mark.parametrize("name", DESIGNS)
def test_as_survey_has_it(name):
    design = SamplingDesign.of(len(Y), **DESIGNS[name])
    plain, calibrated, post = SURVEY[name]
    found = plots_only(design, Y)
    assert (found.mean, found.standard_error) == pytest.approx(plain, abs=1e-8)
    covariates = np.column_stack([np.ones(len(X)), X])
    found = regression_estimate("greg", design, Y, covariates, Means.true([1, 82]))
    assert found.mean == pytest.approx(calibrated[0], abs=1e-8)
    assert without_correction(found, design, 2) == pytest.approx(calibrated[1], abs=1e-8)
    found = post_stratified_estimate(design, Y, CLASSES, np.array([0.55, 0.45]), ["low", "high"])
    assert found.mean == pytest.approx(post[0], abs=1e-8)
    assert without_correction(found, design, 2) == pytest.approx(post[1], abs=1e-8)


def test_strata_by_hand():
    """Two strata of 3 : 1: means 2 and 10, variances of these means 1/3 and 4."""
    design = SamplingDesign.of(
        5, strata=["a", "a", "a", "b", "b"], areas_ha={"a": 300.0, "b": 100.0}
    )
    found = plots_only(design, np.array([1.0, 2, 3, 8, 12]))
    assert design.name == "stratified"
    assert found.mean == pytest.approx(0.75 * 2 + 0.25 * 10)
    a, b = 0.75**2 / 3, 0.25**2 * 4
    assert found.standard_error**2 == pytest.approx(a + b)
    # Cochran's formula 5.16, with 2 and 1 degrees of freedom.
    assert found.degrees_of_freedom == pytest.approx((a + b) ** 2 / (a**2 / 2 + b**2))


def test_clusters_of_unequal_size_by_hand():
    """Sums 6, 4, 2 of 3, 1, 2 plots: 12 / 6 = 2; deviations of the sums from it 0, 2, −2."""
    design = SamplingDesign.of(6, clusters=["p", "p", "p", "q", "r", "r"])
    found = plots_only(design, np.array([1.0, 2, 3, 4, 1, 1]))
    assert design.name == "cluster"
    assert (found.mean, found.degrees_of_freedom) == (2.0, 2.0)
    assert found.standard_error**2 == pytest.approx(3 / 2 * (0 + 4 + 4) / 36)


@given(
    st.lists(st.floats(0, 1000), min_size=3, max_size=30),
    st.floats(-100, 100),
    st.floats(0.1, 10),
)
def test_a_shift_moves_the_mean_and_a_factor_the_error(values, shift, factor):
    y = np.array(values)
    design = SamplingDesign.of(len(y))
    one, other = plots_only(design, y), plots_only(design, factor * y + shift)
    assert other.mean == pytest.approx(factor * one.mean + shift, abs=1e-6)
    assert other.standard_error == pytest.approx(factor * one.standard_error, abs=1e-5)
    assert one.standard_error**2 == pytest.approx(y.var(ddof=1) / len(y), abs=1e-6)


def test_what_goes_to_json():
    found = Estimate("plots_only", 100.0, 10.0, 20.0, 21, {}).to_dict(0.9, 50.0, 0.5)
    reach = student.ppf(0.95, 20)
    assert found["upper_mg_per_ha"] == pytest.approx(100 + 10 * reach)
    assert found["biomass_mg"] == 5000.0
    assert found["carbon_mg_lower"] == pytest.approx(2500 - 250 * reach)
    # ART-TREES 2.0: 0.524417 x relative half-width of the 90 % interval / 1.645006.
    assert found["art_trees_deduction"] == pytest.approx(0.524417 * reach / 10 / 1.645006)


def test_a_map_alone_has_no_interval():
    found = Estimate("map_only", 100.0, None, 0.0, 0, {}).to_dict(0.9, 50.0, 0.5)
    assert found["biomass_mg"] == 5000.0
    assert found["biomass_mg_lower"] is None
    assert found["art_trees_deduction"] is None


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"strata": ["a", "a", "b"], "areas_ha": {"a": 1.0, "b": 1.0}}, "b has fewer than 2 plots"),
        ({"strata": ["a", "a", "b"], "areas_ha": {"a": 1.0}}, "No area is known of stratum b"),
        ({"strata": list("aaa"), "areas_ha": {"a": 1.0, "c": 2.0}}, "Stratum c has no plots"),
        ({"strata": list("aaa"), "areas_ha": {"a": 0.0}}, "must be above 0 ha"),
        ({"clusters": [1, 1, 1]}, "There are fewer than 2 clusters"),
        (
            {"strata": list("aab"), "areas_ha": {"a": 1.0, "b": 1.0}, "clusters": [1, 2, 1]},
            "A cluster lies in two strata",
        ),
    ],
)
def test_designs_without_a_variance_are_refused(stated, sentence):
    with pytest.raises(BadInputError, match=sentence):
        SamplingDesign.of(3, **stated)


def test_inclusion_probabilities_add_up_to_the_area():
    area = np.full(4, 0.02)
    check_inclusion(np.full(4, 0.0008), area, 100.0)
    with pytest.raises(BadInputError, match=r"4 plots add up to 100 ha .* the area has 120 ha"):
        check_inclusion(np.full(4, 0.0008), area, 120.0)
    with pytest.raises(BadInputError, match="above 0 and be at most 1"):
        check_inclusion(np.array([0.1, 1.5]), area[:2], 1.0)
