"""Plots and what is known everywhere, a map or other covariates: regression estimators.

One regression serves the generalised regression estimator (Särndal, Swensson & Wretman 1992,
"Model Assisted Survey Sampling", chapter 6), its two-phase form (Mandallaz, Breschan & Hill 2013,
Can. J. For. Res. 43, 1023), post-stratification (classes are covariates of 0 and 1) and synthetic
estimates of small areas. McRoberts et al. (2013, Remote Sens. Environ. 128, 268) show them with
maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from biomassters.errors import BadInputError
from biomassters.messages import listed
from biomassters.plots.sampling_design import Estimate, Floats, SamplingDesign

FEWEST_IN_CLASS = 2


@dataclass(frozen=True, eq=False)
class Means:
    """What is known of the covariates of an area.

    Attributes:
        values: float64 [k], means in the area.
        covariance: float64 [k, k], of these means, from a larger sample; 0 where they are true.
        predictions: Of that sample, [n1, k], with ``design``, for the external variance.
        design: How that sample was drawn.
    """

    values: Floats
    covariance: Floats
    predictions: Floats | None = None
    design: SamplingDesign | None = None

    @classmethod
    def true(cls, values: Sequence[float] | Floats) -> "Means":
        """Means without error: of a map, or of a census."""
        known = np.asarray(values, float)
        return cls(known, np.zeros((len(known), len(known))))

    @classmethod
    def of_sample(
        cls, design: SamplingDesign, covariates: Floats, weights: Floats | None = None
    ) -> "Means":
        """Means of a first phase of plots [n1, k].

        Args:
            design: Of the first phase.
            covariates: Of its plots.
            weights: Share of each plot's window inside the forest (boundary weights). They weight
                the mean; its covariance counts every plot alike, as R's forestinventory does.
        """
        shares = design.shares * (1.0 if weights is None else weights)
        values = shares @ covariates / shares.sum()
        return cls(values, design.covariance(covariates, values), covariates, design)

    def extended(self, value: float) -> "Means":
        """With one more covariate, whose mean is known without error."""
        k = len(self.values)
        covariance = np.zeros((k + 1, k + 1))
        covariance[:k, :k] = self.covariance
        more = self.predictions
        if more is not None:
            more = np.column_stack([more, np.full(len(more), value)])
        return Means(np.append(self.values, value), covariance, more, self.design)


def regression_estimate(
    estimator: str,
    design: SamplingDesign,
    values: Floats,
    covariates: Floats,
    means: Means,
    *,
    probability_sample: bool = True,
) -> Estimate:
    """The generalised regression estimator, or its model-based twin.

    The standard error comes from the residuals times their g-weights, enlarged by the plots over
    plots less coefficients: for n plots drawn at random n / (n - p) Σ g² e² / n², because
    residuals of few plots are too small. ``details`` also holds ``external_variance`` (residuals'
    variance / n) and ``g_weight_variance`` (without that correction), as Mandallaz names them.

    Where plots are no probability sample, the same mean rests on the model alone (Ståhl et al.
    2016, Forest Ecosystems 3, 5: hybrid where the covariates' means are of a sample). Its variance
    is that of the coefficients by HC3 (MacKinnon & White 1985, J. Econometrics 29, 305), which
    holds for residuals of unequal variance; what the area's own mean departs from the model by is
    left out, so it is for areas much larger than residuals are alike in.

    Args:
        estimator: Its name in the result.
        design: How the plots were drawn.
        values: float64 [n], Mg/ha.
        covariates: float64 [n, k], the first one of ones.
        means: Of the covariates in the area, [k].
        probability_sample: Whether the plots are one.

    Raises:
        BadInputError: There are too few plots for so many covariates, or these are collinear.
    """
    n, k = covariates.shape
    # Each stratum's mean is one coefficient already. Plots count, not clusters: these would make
    # intervals of few clusters hold more than they promise.
    free = n - design.strata_count
    left = free - (k - 1)
    if min(left, design.degrees - (k - 1)) < 1:
        raise BadInputError(
            f"{n} plots are too few for {k - 1} covariates: measure more, or name fewer."
        )
    weighted = design.shares[:, None] * covariates
    normal = covariates.T @ weighted
    if np.linalg.matrix_rank(covariates) < k:
        raise BadInputError(
            "Covariates of the plots are constant or collinear: leave out those that others say."
        )
    inverse = np.linalg.inv(normal)
    coefficients = inverse @ (weighted.T @ values)
    residuals = values - covariates @ coefficients
    g_weights = covariates @ inverse @ means.values
    sampled = float(coefficients @ means.covariance @ coefficients)
    total = float(design.shares @ (values - design.mean(values)) ** 2)
    g_variance = design.variance(g_weights * residuals, unbiased=False)
    external = design.variance(residuals)
    if means.design is not None and means.predictions is not None:
        external += means.design.variance(means.predictions @ coefficients)
    if probability_sample:
        own = design.variance(g_weights * residuals) * free / left
    else:
        leverage = design.shares * np.einsum("nk,kl,nl->n", covariates, inverse, covariates)
        jackknifed = g_weights * residuals / np.maximum(1 - leverage, 1e-6)
        own = float(design.covariance(jackknifed[:, None], 0.0, unbiased=False)[0, 0])
    return Estimate(
        estimator,
        float(means.values @ coefficients + design.mean(residuals)),
        float(np.sqrt(own + sampled)),
        design.effective_degrees(g_weights * residuals) * left / free,
        n,
        {
            "external_variance": external,
            "g_weight_variance": g_variance + sampled,
            "r_squared": 1 - float(design.shares @ residuals**2) / total if total else None,
            "coefficients": coefficients.tolist(),
        },
    )


def difference_estimate(
    design: SamplingDesign, values: Floats, predicted: Floats, map_mean: float
) -> Estimate:
    """The map's mean, corrected by the mean difference at the plots, values − predicted [n]."""
    differences = values - predicted
    variance = design.variance(differences)
    return Estimate(
        "difference", map_mean + float(design.mean(differences)), float(np.sqrt(variance)),
        design.effective_degrees(differences), len(values), {"variance": variance},
    )  # fmt: skip


def post_stratified_estimate(
    design: SamplingDesign,
    values: Floats,
    classes: np.ndarray,
    class_shares: Floats,
    labels: Sequence[str],
) -> Estimate:
    """Means of map classes, weighted by the classes' shares of the land.

    Neighbouring classes are joined until each has two plots.

    Args:
        design: How the plots were drawn, whatever the classes are.
        values: float64 [n], Mg/ha.
        classes: int64 [n], the map's class at each plot.
        class_shares: float64 [C], share of the land, sum 1.
        labels: Of the classes.
    """
    joined = join_classes(np.bincount(classes, minlength=len(class_shares)), FEWEST_IN_CLASS)
    at_plots = joined[classes]
    count = int(joined.max()) + 1
    shares = np.bincount(joined, class_shares, count).astype(np.float64)
    if count == 1:
        covariates = np.ones((len(values), 1))
    else:
        covariates = (at_plots[:, None] == np.arange(count)).astype(np.float64)
    found = regression_estimate("post_stratified", design, values, covariates, Means.true(shares))
    named = [
        " + ".join(label for label, one in zip(labels, joined, strict=True) if one == number)
        for number in range(count)
    ]
    rows = pd.DataFrame({"class": at_plots, "value": values}).groupby("class")["value"]
    details = {
        "classes": [
            {"class": name, "share": float(share), "plots": int(size), "mean_mg_per_ha": mean}
            for name, share, size, mean in zip(
                named, shares, rows.size(), rows.mean().tolist(), strict=True
            )
        ]
    }
    kept = {name: value for name, value in found.details.items() if name != "coefficients"}
    return Estimate(
        found.estimator, found.mean, found.standard_error, found.degrees_of_freedom, found.plots,
        kept | details,
    )  # fmt: skip


def join_classes(counts: np.ndarray, fewest: int) -> np.ndarray:
    """New number of each class, so that all have so many; the one with too few joins the lower.

    >>> join_classes(np.array([0, 5, 1, 7]), 2)
    array([0, 0, 0, 1])
    """
    joined, number, filled = np.empty(len(counts), np.int64), 0, 0
    for index, count in enumerate(counts):
        if filled >= fewest and counts[index:].sum() >= fewest and count >= fewest:
            number, filled = number + 1, 0
        joined[index] = number
        filled += int(count)
    return joined


def with_intercept(table: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Covariates of a table, ones first, [n, 1 + k].

    Raises:
        BadInputError: Values are missing.
    """
    if gaps := [name for name in names if not np.isfinite(table[name].to_numpy(float)).all()]:
        raise BadInputError(
            f"Values of {listed(gaps)} are missing: fill them in, or leave out those rows."
        )
    return np.column_stack([np.ones(len(table)), table[list(names)].to_numpy(float)])
