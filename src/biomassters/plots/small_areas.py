"""Areas with few plots or none: estimators that borrow from plots outside, each with its error.

With b the regression of all plots and z the covariates' means in the area: *synthetic* z b, whose
standard error says nothing of how the area departs from b; *model-assisted* z b and the area's mean
residual; *extended synthetic*, the same by a covariate that marks the area, so that its residuals
sum to 0 (Mandallaz 2013, Can. J. For. Res. 43, 441); *EBLUP*, a mixed model whose areas depart from
b at random, shrunk by how little an area's plots say (Battese, Harter & Fuller 1988, J. Am. Stat.
Assoc. 83, 28; for forests Breidenbach & Astrup 2012, Eur. J. For. Res. 131, 1255).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from biomassters.errors import BadInputError
from biomassters.plots.options import SmallAreaOptions
from biomassters.plots.regression import Means, regression_estimate
from biomassters.plots.sampling_design import Estimate, Floats, SamplingDesign, plots_only

_FEWEST_AREAS = 3  # for a variance between areas


@dataclass(frozen=True, eq=False)
class MixedModel:
    """The unit-level model y = z b + v_area + e, fitted by REML.

    Attributes:
        coefficients: float64 [k].
        covariance: float64 [k, k], of the coefficients.
        between: Variance of v, of areas.
        within: Variance of e, of plots.
        fisher: float64 [2, 2], asymptotic covariance of these two estimates.
        areas: With plots.
    """

    coefficients: Floats
    covariance: Floats
    between: float
    within: float
    fisher: Floats
    areas: int

    @classmethod
    def fit(cls, values: Floats, covariates: Floats, areas: np.ndarray) -> "MixedModel | None":
        """From plots in at least three areas; None where there are fewer, or too few plots.

        Args:
            values: float64 [n].
            covariates: float64 [n, k], the first one of ones.
            areas: Name of each plot's area, [n].
        """
        names, codes, counts = np.unique(areas, return_inverse=True, return_counts=True)
        if len(names) < _FEWEST_AREAS or len(values) <= len(names) + covariates.shape[1]:
            return None
        from statsmodels.regression.mixed_linear_model import MixedLM

        # Covariates of far different sizes keep its optimizer from the optimum.
        scale = np.where(covariates.std(axis=0) > 0, covariates.std(axis=0), 1.0)
        spread = float(values.std()) or 1.0
        # Powell's default tolerance leaves the variances 1e-4 off, its tight one 1e-7.
        fitted = _quietly(
            lambda: MixedLM(values / spread, covariates / scale, groups=codes).fit(
                reml=True, method="powell", xtol=1e-10, ftol=1e-15
            )
        )
        between = max(0.0, float(fitted.cov_re[0, 0])) * spread**2
        within = float(fitted.scale) * spread**2
        alpha = within + counts * between
        information = 0.5 * np.array(
            [
                [(counts**2 / alpha**2).sum(), (counts / alpha**2).sum()],
                [(counts / alpha**2).sum(), ((counts - 1) / within**2 + alpha**-2.0).sum()],
            ]
        )
        # Least squares weighted by the two variances: b and its covariance.
        normal, moment = np.zeros((len(scale), len(scale))), np.zeros(len(scale))
        for code, count in enumerate(counts):
            z, y = covariates[codes == code], values[codes == code]
            gamma = between / (between + within / count)
            normal += (z.T @ z - gamma * count * np.outer(z.mean(0), z.mean(0))) / within
            moment += (z.T @ y - gamma * count * z.mean(0) * y.mean()) / within
        covariance = np.asarray(np.linalg.inv(normal), np.float64)
        fisher = np.asarray(np.linalg.inv(information), np.float64)
        return cls(covariance @ moment, covariance, between, within, fisher, len(names))

    def estimate(self, values: Floats, covariates: Floats, means: Means) -> Estimate:
        """One area's mean, from its plots [n] and [n, k], which may be none.

        The mean squared error is g1 + g2 + 2 g3 (Prasad & Rao 1990, J. Am. Stat. Assoc. 85, 163;
        Rao & Molina 2015, "Small Area Estimation", section 7.2.2), with the error of the
        covariates' means where these are of a sample. Land has no finite number of plots, so
        nothing is taken off for those measured.
        """
        n = len(values)
        gamma, departure, at_plots = 0.0, 0.0, np.zeros_like(means.values)
        third = 0.0
        if n:
            gamma = self.between / (self.between + self.within / n)
            at_plots = covariates.mean(axis=0)
            departure = gamma * float(values.mean() - at_plots @ self.coefficients)
            vector = np.array([self.within, -self.between])
            third = float(vector @ self.fisher @ vector)
            third /= n**2 * (self.between + self.within / n) ** 3
        reach = means.values - gamma * at_plots
        first = self.between * (1 - gamma)
        second = float(reach @ self.covariance @ reach)
        sampled = float(self.coefficients @ means.covariance @ self.coefficients)
        return Estimate(
            "eblup" if n else "synthetic_mixed_model",
            float(means.values @ self.coefficients) + departure,
            float(np.sqrt(first + second + 2 * third + sampled)),
            self.areas - 1, n,
            {"gamma": gamma, "mse_parts": [first, second, 2 * third]},
        )  # fmt: skip


def _quietly(fit: Any) -> Any:
    """Without the warnings of a variance at 0, which is an answer like any other."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit()


def estimate_small_areas(
    design: SamplingDesign,
    values: Floats,
    covariates: Floats,
    areas: np.ndarray,
    means: Mapping[str, Means],
    options: SmallAreaOptions,
) -> dict[str, dict[str, Estimate]]:
    """Every estimator of every area that its plots allow, by name, and which one is chosen.

    Args:
        design: Of all plots.
        values: float64 [n], Mg/ha.
        covariates: float64 [n, k], the first one of ones.
        areas: Name of each plot's area, [n].
        means: Of the covariates by area; areas without plots may be among them.
        options: How many plots which estimator needs.

    Returns:
        By area, by estimator: plots_only, synthetic, model_assisted, extended_synthetic, eblup (or
        synthetic_mixed_model, where no plot lies in the area), and once more as ``chosen``.

    Raises:
        BadInputError: Plots lie in areas that ``means`` doesn't know, or are too few.
    """
    if unknown := sorted(set(map(str, areas)) - set(means)):
        raise BadInputError(
            f"Plots lie in area {unknown[0]}, whose means of covariates are not known: add it to "
            "the table of areas."
        )
    mixed = MixedModel.fit(values, covariates, areas)
    found = {}
    for name, mean in means.items():
        inside = areas == name
        n = int(inside.sum())
        synthetic = regression_estimate("synthetic", design, values, covariates, mean)
        one = {"synthetic": synthetic}
        part = design.part(inside)
        if part is not None:
            one["plots_only"] = plots_only(part, values[inside])
            coefficients = np.array(synthetic.details["coefficients"])
            left = (values - covariates @ coefficients)[inside]
            one["model_assisted"] = _with_residuals(synthetic, part, left, mean)
        if part is not None and options.extended_from <= n < len(values):
            marked = np.column_stack([covariates, inside])
            extended = regression_estimate(
                "extended_synthetic", design, values, marked, mean.extended(1.0)
            )
            coefficients = np.array(extended.details["coefficients"])
            left = (values - marked @ coefficients)[inside]
            extended.details["external_variance"] = _external(part, left, mean, coefficients[:-1])
            one["extended_synthetic"] = extended
        if mixed is not None:
            eblup = mixed.estimate(values[inside], covariates[inside], mean)
            one[eblup.estimator] = eblup
        order = ["extended_synthetic", "eblup", "synthetic_mixed_model", "synthetic"]
        if n == len(values):  # nothing to borrow from
            order.insert(0, "model_assisted")
        one["chosen"] = next(one[name] for name in order if name in one)
        found[name] = one
    return found


def _with_residuals(
    synthetic: Estimate, part: SamplingDesign, residuals: Floats, means: Means
) -> Estimate:
    """Synthetic estimate corrected by the area's mean residual; residuals [n] of its plots."""
    assert synthetic.standard_error is not None
    coefficients = np.array(synthetic.details["coefficients"])
    return Estimate(
        "model_assisted", synthetic.mean + float(part.mean(residuals)),
        float(np.sqrt(part.variance(residuals) + synthetic.standard_error**2)),
        part.degrees, len(residuals),
        {"external_variance": _external(part, residuals, means, coefficients)},
    )  # fmt: skip


def _external(part: SamplingDesign, residuals: Floats, means: Means, coefficients: Floats) -> float:
    """Variance as if the coefficients [k] were known: of the area's own residuals [n]."""
    variance = part.variance(residuals)
    if means.design is not None and means.predictions is not None:
        variance += means.design.variance(means.predictions @ coefficients)
    return variance
