"""Totals of an area and how wrong they may be, pixels being alike in their errors.

The variance of a sum of correlated errors is Σᵢ Σⱼ σᵢ σⱼ ρ(dᵢⱼ) (as for model-based estimates in
McRoberts, Næsset & Gobakken 2018, "Comparing the stock-change and gain-loss approaches …", and
Saarela et al. 2016, "Hierarchical model-based inference …", Annals of Forest Science 73). The
double sum is taken over square cells by an FFT, two of them having the mean correlation of their
pixels. So a region of any size is never in memory as pixels.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.cell_correlation import cell_correlation, convolved
from biomassters.uncertainty.cell_sums import CellSums
from biomassters.uncertainty.error_model import ErrorModel

CARBON_FRACTION = 0.47
"""Carbon in dry biomass: IPCC 2006 Guidelines, volume 4, chapter 4, table 4.3."""


@dataclass(frozen=True)
class Total:
    """Biomass of an area.

    Attributes:
        area_ha: Area that counted, ha.
        mean: Mean AGB, bias taken away, Mg/ha.
        standard_error: Of the mean, Mg/ha.
        level: Of the intervals.
        carbon_fraction: Mg of carbon in a Mg of biomass.
    """

    area_ha: float
    mean: float
    standard_error: float
    level: float
    carbon_fraction: float

    def to_dict(self) -> dict[str, float]:
        """Ready for JSON: ``*_mg`` are Mg (tonnes) of the whole area, ``*_mg_per_ha`` densities."""
        # Lower ends stop at 0: there is no negative forest.
        half = NormalDist().inv_cdf(0.5 + self.level / 2) * self.standard_error
        means = {"": self.mean, "_lower": max(0.0, self.mean - half), "_upper": self.mean + half}
        biomass = {f"biomass_mg{end}": value * self.area_ha for end, value in means.items()}
        carbon = {
            f"carbon_mg{end}": value * self.area_ha * self.carbon_fraction
            for end, value in means.items()
        }
        return {
            "area_ha": self.area_ha,
            **biomass,
            **carbon,
            "mean_agb_mg_per_ha": self.mean,
            "mean_agb_standard_error_mg_per_ha": self.standard_error,
            "level": self.level,
            "carbon_fraction": self.carbon_fraction,
        }


class RegionTotals:
    """Adds up a map block by block; blocks may come in any order and have any size.

    Args:
        error_model: From held-out chips.
        pixel_size_m: Distance between neighbouring pixels.
        pixel_area_ha: Of one pixel; from its size if None.
        carbon_fraction: Mg of carbon in a Mg of biomass.
    """

    def __init__(
        self,
        error_model: ErrorModel,
        pixel_size_m: float,
        pixel_area_ha: float | None = None,
        carbon_fraction: float = CARBON_FRACTION,
    ) -> None:
        self._model = error_model
        self._pixel_size_m = pixel_size_m
        self._area_ha = pixel_size_m**2 / 10_000 if pixel_area_ha is None else pixel_area_ha
        self._carbon_fraction = carbon_fraction
        self._pixels = 0.0
        self._biomass = 0.0
        self._in_bins = np.zeros(len(error_model.bias))
        self._cells = CellSums(2)  # Σσ, Σσ²

    def update(
        self,
        prediction_HW: NDArray[Any],
        valid_HW: NDArray[np.bool_],
        top: int,
        left: int,
        areas_ha: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in a block; each pixel of the region once.

        Args:
            prediction_HW: AGB, Mg/ha; anything where not valid.
            valid_HW: Pixels that count.
            top: Row of the block's first pixel in the region.
            left: Column of it.
            areas_ha: Of each pixel on the ground; None: all have the same.
        """
        predicted = np.where(valid_HW, prediction_HW, 0.0)
        # A pixel counts as so many of the usual area.
        share = np.where(valid_HW, 1.0 if areas_ha is None else areas_ha / self._area_ha, 0.0)
        self._pixels += float(share.sum())
        self._biomass += float((self._model.corrected(predicted) * share).sum())
        sigma = self._model.deviations(predicted) * share
        bins = self._model.bins(predicted[valid_HW])
        self._in_bins += np.bincount(bins, weights=share[valid_HW], minlength=len(self._in_bins))
        self._cells.add(np.stack([sigma, sigma**2]), top, left)

    def total(self) -> Total:
        """Of all blocks so far."""
        pixels = self._pixels or 1.0
        errors = self._model.inflation**2 * self._error_variance() / pixels**2
        mean = max(0.0, self._biomass / pixels)
        shared = self._model.bias_variance(self._in_bins / pixels)
        variance = errors + shared + (self._model.shared_sd * mean) ** 2
        return Total(
            area_ha=self._pixels * self._area_ha,
            mean=mean,
            standard_error=float(np.sqrt(variance)) if self._pixels else 0.0,
            level=self._model.level,
            carbon_fraction=self._carbon_fraction,
        )

    def result(self) -> dict[str, float]:
        """Of all blocks so far, ready for JSON; see ``Total.to_dict``."""
        return self.total().to_dict()

    def _error_variance(self) -> float:
        """Variance of the sum of all errors, (Mg/ha)²."""
        sigma, squares = self._cells.sums
        if not sigma.size:
            return 0.0
        kernel = cell_correlation(
            self._model, self._pixel_size_m, self._cells.side, tuple(sigma.shape)
        )
        within = kernel[0, 0]
        kernel[0, 0] = 0.0
        lasting = self._model.correlation[-1]
        between = float((sigma * convolved(sigma, kernel)).sum())
        # Pairs within a cell; a pixel with itself correlates fully.
        own = float(squares.sum())
        inside = within * (float((sigma**2).sum()) - own) + (1 - lasting) * own
        return between + inside + lasting * float(sigma.sum()) ** 2
