"""Totals of an area and how wrong they may be, the errors of its pixels being correlated.

The variance of a sum of correlated errors is Σᵢ Σⱼ σᵢ σⱼ ρ(dᵢⱼ) (as for model-based estimates in
McRoberts, Næsset & Gobakken 2018, "Comparing the stock-change and gain-loss approaches …", and
Saarela et al. 2016, "Hierarchical model-based inference …", Annals of Forest Science 73). The
double sum is taken over square cells by an FFT, two of them having the mean correlation of their
pixels (``cell_correlation``). So a region of any size is never in memory as pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.error_model import ErrorModel

CARBON_FRACTION = 0.47
"""Carbon in dry biomass: IPCC 2006 Guidelines, volume 4, chapter 4, table 4.3."""
FINEST_PIXELS = 16
_MOST_CELLS = 2**20
_GEDI_CELL_M = 1000
_GEDI_MG_PER_HA, _GEDI_SHARE = 20.0, 0.2


def in_mg(
    mean: float, lower: float, upper: float, area_ha: float, carbon_fraction: float
) -> dict[str, float]:
    """Mg (tonnes) of biomass and of carbon of an area from means in Mg/ha.

    Returns:
        biomass_mg and carbon_mg, each also with ``_lower`` and ``_upper``.
    """
    ends = {"": mean, "_lower": lower, "_upper": upper}
    biomass = {f"biomass_mg{end}": value * area_ha for end, value in ends.items()}
    carbon = {f"carbon_mg{end}": value * area_ha * carbon_fraction for end, value in ends.items()}
    return biomass | carbon


@dataclass(frozen=True)
class Total:
    """Biomass of an area."""

    area_ha: float  # area that counted, ha
    mean: float  # mean AGB, corrected for the bias, Mg/ha
    standard_error: float  # of the mean, Mg/ha
    level: float  # of the intervals
    carbon_fraction: float  # Mg of carbon in a Mg of biomass

    def to_dict(self) -> dict[str, float]:
        """Ready for JSON: ``*_mg`` are Mg (tonnes) of the whole area, ``*_mg_per_ha`` densities."""
        # Lower ends stop at 0: there is no negative forest.
        half = NormalDist().inv_cdf(0.5 + self.level / 2) * self.standard_error
        lower, upper = max(0.0, self.mean - half), self.mean + half
        return {
            "area_ha": self.area_ha,
            **in_mg(self.mean, lower, upper, self.area_ha, self.carbon_fraction),
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
        """Take in a block of AGB in Mg/ha where valid; each pixel of the region once.

        Its first pixel lies in row ``top`` and column ``left`` of the region; the areas are of each
        pixel on the ground, None: all have the same.
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
        kernel = _cell_correlation(
            self._model, self._pixel_size_m, self._cells.side, tuple(sigma.shape)
        )
        within = kernel[0, 0]
        kernel[0, 0] = 0.0
        lasting = self._model.correlation[-1]
        between = float((sigma * _convolved(sigma, kernel)).sum())
        # Pairs within a cell; a pixel with itself correlates fully.
        own = float(squares.sum())
        inside = within * (float((sigma**2).sum()) - own) + (1 - lasting) * own
        return between + inside + lasting * float(sigma.sum()) ** 2


def total_of_map(
    errors: ErrorModel,
    prediction_HW: NDArray[Any],
    valid_HW: NDArray[np.bool_],
    pixel_size_m: float,
    pixel_area_ha: float | None = None,
) -> Total:
    """Biomass of one map (AGB, Mg/ha) that fits in memory; see ``RegionTotals`` for larger ones."""
    region = RegionTotals(errors, pixel_size_m, pixel_area_ha)
    region.update(prediction_HW, valid_HW, 0, 0)
    return region.total()


class CellSums:
    """Adds up some images side by side by square cells; too many cells are joined by fours.

    So memory stays bounded however large the region is.

    Attributes:
        side: Pixels of a cell's side.
        sums: float64 [images, rows, columns], from the region's upper left corner.
    """

    def __init__(self, images: int, most: int = _MOST_CELLS) -> None:
        self.side = FINEST_PIXELS
        self.sums = np.zeros((images, 0, 0))
        self._most = most

    def add(self, images_CHW: NDArray[Any], top: int, left: int) -> None:
        """Add a block whose first pixel lies there in the region, of any size and in any order."""
        height, width = images_CHW.shape[1:]
        self._make_room(top + height, left + width)
        rows, columns = self._groups(top, height), self._groups(left, width)
        by_row = np.add.reduceat(images_CHW, rows, axis=1)
        sums = np.add.reduceat(by_row, columns, axis=2)
        row, column = top // self.side, left // self.side
        self.sums[:, row : row + len(rows), column : column + len(columns)] += sums

    def _make_room(self, height: int, width: int) -> None:
        """Cells for so many pixels, fewer and larger ones where there would be too many."""
        while True:
            here = self.sums.shape[1:]
            rows, columns = (
                max(held, -(-size // self.side))
                for held, size in zip(here, (height, width), strict=True)
            )
            if rows * columns <= self._most:
                break
            self._join_fours()
        if (rows, columns) != here:
            self.sums = np.pad(self.sums, ((0, 0), (0, rows - here[0]), (0, columns - here[1])))

    def _join_fours(self) -> None:
        rows, columns = self.sums.shape[1:]
        even = np.pad(self.sums, ((0, 0), (0, rows % 2), (0, columns % 2)))
        by_row = even[:, ::2] + even[:, 1::2]
        self.sums = by_row[:, :, ::2] + by_row[:, :, 1::2]
        self.side *= 2

    def _groups(self, start: int, length: int) -> NDArray[np.int64]:
        """Where along an axis of a block its cells begin."""
        borders = np.arange(start // self.side + 1, -(-(start + length) // self.side)) * self.side
        return np.concatenate([[0], borders - start])


@dataclass
class _GediCell:
    totals: RegionTotals
    seen: int = 0
    valid: int = 0


class GediCells:
    """Square kilometres of a map whose mean is as well known as GEDI requires, block by block.

    GEDI's gridded biomass (L4B) comes in cells of 1 km, and the mission requires of 80 % of them a
    standard error of the mean of at most 20 Mg/ha or 20 % of it, whichever is larger (Dubayah et
    al. 2020, "The Global Ecosystem Dynamics Investigation: High-resolution laser ranging of the
    Earth's forests and topography", Science of Remote Sensing 1).

    Cells begin at the map's upper left corner, and are squares of as many whole pixels as come
    nearest to 1 km. Those with a pixel without data, or that reach beyond the map, don't count. A
    cell is forgotten when all of its pixels were seen, so memory holds those that blocks share.
    """

    def __init__(self, error_model: ErrorModel, pixel_size_m: float) -> None:
        self._model = error_model
        self._pixel_size_m = pixel_size_m
        self._side = max(1, round(_GEDI_CELL_M / pixel_size_m))
        self._open: dict[tuple[int, int], _GediCell] = {}
        self._whole = self._within = 0

    def update(
        self,
        prediction_HW: NDArray[Any],
        valid_HW: NDArray[np.bool_],
        top: int,
        left: int,
        areas_ha: NDArray[np.float64],
    ) -> None:
        """Take in a block, as ``RegionTotals.update`` does; each pixel of the region once."""
        height, width = prediction_HW.shape
        for row, y, rows in self._parts(top, height):
            for column, x, columns in self._parts(left, width):
                key, part = (row, column), (rows, columns)
                if key not in self._open:
                    self._open[key] = _GediCell(RegionTotals(self._model, self._pixel_size_m))
                cell, valid = self._open[key], valid_HW[part]
                cell.totals.update(prediction_HW[part], valid, y, x, areas_ha[part])
                cell.seen += valid.size
                cell.valid += int(valid.sum())
                if cell.seen == self._side**2:
                    self._finish(self._open.pop(key))

    def result(self) -> dict[str, float]:
        """Whole cells and the share of them within the requirement; nothing without a cell."""
        if not self._whole:
            return {}
        return {"gedi_cells": self._whole, "gedi_cells_within": self._within / self._whole}

    def _finish(self, cell: _GediCell) -> None:
        if cell.valid == cell.seen:
            total = cell.totals.total()
            most = max(_GEDI_MG_PER_HA, _GEDI_SHARE * total.mean)
            self._whole += 1
            self._within += total.standard_error <= most

    def _parts(self, start: int, length: int) -> Iterator[tuple[int, int, slice]]:
        """Cells along an axis of a block: number, first pixel seen in it, part of the block."""
        for cell in range(start // self._side, -(-(start + length) // self._side)):
            first = cell * self._side - start
            part = slice(max(0, first), min(length, first + self._side))
            yield cell, part.start - first, part


def _cell_correlation(
    model: ErrorModel, pixel_size_m: float, side: int, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Mean correlation of a pixel of one cell and a pixel of another, less what always lasts.

    Returns:
        float64 [rows + reach, columns + reach], by displacement: at [i, j] that of cells i rows
        and j columns apart, negative ones counted from the end as an FFT does; less the curve's
        last value, so that it is 0 beyond. At [0, 0] that of two different pixels of one cell.
    """
    reach = int(np.ceil(model.distance_m[-1] / pixel_size_m / side)) + 1
    rows, columns = (min(reach, size - 1) for size in shape)
    near = _near(model, pixel_size_m, side, rows, columns)
    kernel = np.zeros((shape[0] + rows, shape[1] + columns))
    for i in range(-rows, rows + 1):
        for j in range(-columns, columns + 1):
            kernel[i, j] = near[abs(i), abs(j)]
    return kernel


def _convolved(x_HW: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over all cells weighted by the kernel of their displacement, [H, W]."""
    height, width = x_HW.shape
    spectrum = np.fft.rfft2(x_HW, s=kernel.shape) * np.fft.rfft2(kernel)
    found: NDArray[np.float64] = np.fft.irfft2(spectrum, s=kernel.shape)[:height, :width]
    return found


@lru_cache(maxsize=4)  # the same for every square kilometre of a map
def _near(
    model: ErrorModel, pixel_size_m: float, side: int, rows: int, columns: int
) -> NDArray[np.float64]:
    """By rows and columns apart, [rows + 1, columns + 1]."""
    return np.array(
        [[_mean(model, pixel_size_m, side, i, j) for j in range(columns + 1)]
         for i in range(rows + 1)]
    )  # fmt: skip


def _mean(model: ErrorModel, pixel_size_m: float, side: int, row: int, column: int) -> float:
    """Of all pairs of pixels of two cells, by their offsets and how many pairs have each."""
    offsets = np.arange(1 - side, side)
    pairs = (side - np.abs(offsets)).astype(np.float64)
    weight = np.outer(pairs, pairs)
    distance = np.hypot(
        (row * side + offsets)[:, None] * pixel_size_m, (column * side + offsets) * pixel_size_m
    )
    if row == column == 0:
        weight[distance == 0] = 0.0
    mean = (weight * model.correlation_at(distance)).sum() / weight.sum()
    return float(mean) - model.correlation[-1]
