"""How plots were drawn, and what follows for means: estimates, covariances, degrees of freedom.

One form serves every design here (Särndal, Swensson & Wretman 1992, "Model Assisted Survey
Sampling", chapters 3-5): a mean is a weighted sum of plots, its variance that of the sums of the
primary units (plots, or clusters) within strata, as R's ``survey`` has it. Land has no finite
number of plots, so nothing is taken off for the share that was sampled (Mandallaz 2008, "Sampling
Techniques for Forest Inventories").
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from biomassters.errors import BadInputError
from biomassters.messages import counted, listed
from biomassters.uncertainty.carbon import art_trees_deduction
from biomassters.uncertainty.totals import in_mg

Floats = NDArray[np.float64]
_NINETY = 0.9


@dataclass(frozen=True)
class Estimate:
    """A mean of a population, with what is known of its error.

    Attributes:
        estimator: Its name.
        mean: In the unit of the plots' values, Mg/ha.
        standard_error: Of the mean; None where nothing is known of it.
        degrees_of_freedom: Of Student's t; infinite for the normal distribution.
        plots: Used.
        details: Further numbers for JSON, such as other variances of the same estimator.
    """

    estimator: str
    mean: float
    standard_error: float | None
    degrees_of_freedom: float
    plots: int
    details: dict[str, Any]

    def half_width(self, level: float) -> float:
        """Half of an interval of this level; NaN without a standard error."""
        if self.standard_error is None or self.degrees_of_freedom <= 0:
            return float("nan")
        reach = float(student.ppf(0.5 + level / 2, self.degrees_of_freedom))
        return reach * self.standard_error

    def to_dict(self, level: float, area_ha: float | None, carbon_fraction: float) -> Any:
        """Ready for JSON: mean, interval, ART-TREES deduction, and Mg where the area is known."""
        half = self.half_width(level)
        known = bool(np.isfinite(half))
        lower, upper = max(0.0, self.mean - half) if known else half, self.mean + half
        ninety = self.half_width(_NINETY) / self.mean if known and self.mean > 0 else None
        found = {
            "estimator": self.estimator,
            "plots": self.plots,
            "mean_agb_mg_per_ha": self.mean,
            "standard_error_mg_per_ha": self.standard_error,
            "degrees_of_freedom": self.degrees_of_freedom
            if 0 < self.degrees_of_freedom < np.inf
            else None,
            "lower_mg_per_ha": lower if known else None,
            "upper_mg_per_ha": upper if known else None,
            "relative_half_width_90": ninety,
            "art_trees_deduction": None if ninety is None else art_trees_deduction(ninety),
            **self.details,
        }
        if area_ha is not None:
            totals = in_mg(self.mean, lower, upper, area_ha, carbon_fraction)
            found |= {name: value if np.isfinite(value) else None for name, value in totals.items()}
        return found


@dataclass(frozen=True, eq=False)
class SamplingDesign:
    """Which plots are drawn together, and what each stands for.

    Attributes:
        shares: float64 [n], the share of the population that each plot stands for; sum 1.
        strata: int64 [n], number of each plot's stratum.
        units: int64 [n], number of each plot's primary unit: itself, or its cluster.
    """

    shares: Floats
    strata: NDArray[np.int64]
    units: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        plots: int,
        strata: ArrayLike | None = None,
        areas_ha: dict[Any, float] | None = None,
        clusters: ArrayLike | None = None,
        inclusion: ArrayLike | None = None,
    ) -> "SamplingDesign":
        """A design as a table states it.

        Args:
            plots: How many.
            strata: Name of each plot's stratum; None: a single one.
            areas_ha: Area of each stratum; must name all, or the population's shares are unknown.
            clusters: Name of each plot's cluster, unique in the population; None: plots alone.
            inclusion: Inclusion probability of each plot, relative ones serve; None: all alike.

        Raises:
            BadInputError: A stratum has no area, or fewer than two primary units, so that its
                variance is unknown; or there are fewer than two in all.
        """
        weights = np.ones(plots) if inclusion is None else 1 / np.asarray(inclusion, float)
        units = np.arange(plots)
        if clusters is not None:
            units = np.unique(np.asarray(clusters).astype(str), return_inverse=True)[1]
        codes, names = np.zeros(plots, np.int64), np.array([""])
        shares = np.ones(1)
        if strata is not None:
            names, codes = np.unique(np.asarray(strata).astype(str), return_inverse=True)
            areas = {str(name): area for name, area in (areas_ha or {}).items()}
            if missing := sorted(set(names) - set(areas)):
                raise BadInputError(
                    f"No area is known of stratum {listed(missing)}: give every stratum's area_ha "
                    "in the table of strata."
                )
            if empty := sorted(set(areas) - set(names)):
                raise BadInputError(
                    f"Stratum {listed(empty)} has no plots, so its mean and variance are unknown: "
                    "join it to another one, in both tables."
                )
            shares = np.array([areas[str(name)] for name in names])
            if not (np.isfinite(shares).all() and (shares > 0).all()):
                raise BadInputError("Areas of strata must be above 0 ha: mend the table of strata.")
            shares = shares / shares.sum()
        unit_strata = codes[np.unique(units, return_index=True)[1]]
        if not np.array_equal(unit_strata[units], codes):
            raise BadInputError(
                "A cluster lies in two strata: give each part a cluster name of its own."
            )
        lonely = names[np.bincount(unit_strata, minlength=len(names)) < 2]
        if len(lonely):
            what = "cluster" if clusters is not None else "plot"
            where = f"Stratum {listed(lonely)} has" if strata is not None else "There are"
            raise BadInputError(
                f"{where} fewer than 2 {what}s, so the variance is unknown: "
                + ("join it to another stratum." if strata is not None else "measure more.")
            )
        of_stratum = np.bincount(codes, weights, len(names))
        return cls(shares[codes] * weights / of_stratum[codes], codes, units)

    @property
    def name(self) -> str:
        """What the design is called."""
        parts = ["stratified"] if self.strata.max() else []
        if self._unit_strata.size < self.shares.size:
            parts.append("cluster")
        return " ".join(parts) or "simple random"

    @cached_property
    def _unit_strata(self) -> NDArray[np.int64]:
        return self.strata[np.unique(self.units, return_index=True)[1]]

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """Primary units by stratum."""
        return np.bincount(self._unit_strata)

    @property
    def strata_count(self) -> int:
        """Strata, 1 without any."""
        return len(self._counts)

    @property
    def degrees(self) -> int:
        """Primary units less strata."""
        return int(self._counts.sum() - len(self._counts))

    def mean(self, values: Floats) -> Any:
        """Of values [n] or [n, k]."""
        return self.shares @ values

    def covariance(
        self, values: Floats, centre: Floats | float | None = None, *, unbiased: bool = True
    ) -> Floats:
        """Of the means of values [n, k]: float64 [k, k].

        Args:
            values: Of the plots.
            centre: What deviations are taken from; None: each stratum's own mean.
            unbiased: Whether the squares of a stratum's m units count m / (m - 1) times.
        """
        if centre is None:
            weight = np.bincount(self.strata, self.shares)
            sums = np.stack(
                [np.bincount(self.strata, self.shares * column) for column in values.T], axis=1
            )
            centre = (sums / weight[:, None])[self.strata]
        scores = self.shares[:, None] * (values - centre)
        sums = np.stack([np.bincount(self.units, column) for column in scores.T], axis=1)
        factor = (self._counts / (self._counts - 1))[self._unit_strata] if unbiased else 1.0
        covariance: Floats = (sums * np.reshape(factor, (-1, 1))).T @ sums
        return covariance

    def variance(self, values: Floats, *, unbiased: bool = True) -> float:
        """Of the mean of values [n]."""
        return float(self.covariance(values[:, None], unbiased=unbiased)[0, 0])

    def effective_degrees(self, values: Floats) -> float:
        """Of the variance of the mean of values, by Satterthwaite.

        Cochran (1977), "Sampling Techniques", formula 5.16: fewer than units less strata where
        a stratum of few plots brings most of the variance.
        """
        parts = np.array(
            [
                self.variance(np.where(self.strata == stratum, values, 0.0))
                for stratum in range(len(self._counts))
            ]
        )
        if len(parts) == 1 or not parts.any():
            return float(self.degrees)
        return float(parts.sum() ** 2 / (parts**2 / (self._counts - 1)).sum())

    def part(self, chosen: NDArray[np.bool_]) -> "SamplingDesign | None":
        """The plots of a domain; None where fewer than two primary units lie there.

        Strata are given up there: a domain's share of each is unknown, and most have too few plots.
        """
        units = np.unique(self.units[chosen], return_inverse=True)[1]
        shares = self.shares[chosen]
        if units.size == 0 or units.max() < 1:
            return None
        return SamplingDesign(shares / shares.sum(), np.zeros(units.size, np.int64), units)


def plots_only(design: SamplingDesign, values: Floats) -> Estimate:
    """The design-based mean of plots alone, values [n]."""
    variance = design.variance(values)
    return Estimate(
        "plots_only", float(design.mean(values)), float(np.sqrt(variance)),
        design.effective_degrees(values), len(values), {"variance": variance},
    )  # fmt: skip


def check_inclusion(
    inclusion: Floats, plot_area_ha: Floats, area_ha: float, tolerance: float = 4.0
) -> None:
    """Whether inclusion probabilities fit the area: plot areas / probabilities must add up to it.

    Each plot stands for 1 / probability of its size (Horvitz & Thompson 1952).

    Args:
        inclusion: float64 [n], probability that a place of the plot's size was drawn.
        plot_area_ha: float64 [n].
        area_ha: Of the population.
        tolerance: Standard errors that the sum may be off by; 1 % always is.

    Raises:
        BadInputError: They are no probabilities, or add up to another area.
    """
    if not ((inclusion > 0) & (inclusion <= 1)).all():
        raise BadInputError(
            "Inclusion probabilities must lie above 0 and be at most 1: mend their column."
        )
    stands_for = plot_area_ha / inclusion
    found = float(stands_for.sum())
    error = float(np.sqrt(len(stands_for)) * stands_for.std(ddof=1))
    if abs(found - area_ha) > max(0.01 * area_ha, tolerance * error):
        raise BadInputError(
            f"The inclusion probabilities of {counted(len(inclusion), 'plot')} add up to "
            f"{found:,.0f} ha (plot area / probability), but the area has {area_ha:,.0f} ha: give "
            "the probability that a place of a plot's size was drawn, or the right area."
        )
