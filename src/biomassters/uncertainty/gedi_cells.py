"""Square kilometres of a map whose mean is as well known as GEDI requires.

GEDI's gridded biomass (L4B) comes in cells of 1 km, and the mission requires of 80 % of them a
standard error of the mean of at most 20 Mg/ha or 20 % of it, whichever is larger (Dubayah et al.
2020, "The Global Ecosystem Dynamics Investigation: High-resolution laser ranging of the Earth's
forests and topography", Science of Remote Sensing 1). A cell here is an area as any other, with
the errors that its pixels share: see ``totals``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.totals import RegionTotals

_CELL_M = 1000
_MOST_MG_PER_HA = 20.0
_MOST_OF_MEAN = 0.2


@dataclass
class _Cell:
    totals: RegionTotals
    seen: int = 0
    valid: int = 0


class GediCells:
    """Counts a map's whole cells, and those within the requirement, block by block.

    Cells begin at the map's upper left corner, and are squares of as many whole pixels as come
    nearest to 1 km. Those with a pixel without data, or that reach beyond the map, don't count. A
    cell is forgotten when all of its pixels were seen, so memory holds those that blocks share.

    Args:
        error_model: From held-out chips.
        pixel_size_m: Distance between neighbouring pixels.
    """

    def __init__(self, error_model: ErrorModel, pixel_size_m: float) -> None:
        self._model = error_model
        self._pixel_size_m = pixel_size_m
        self._side = max(1, round(_CELL_M / pixel_size_m))
        self._open: dict[tuple[int, int], _Cell] = {}
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
        for row, rows in _cut(top, height, self._side):
            for column, columns in _cut(left, width, self._side):
                key, part = (row, column), (rows, columns)
                if key not in self._open:
                    self._open[key] = _Cell(RegionTotals(self._model, self._pixel_size_m))
                cell, valid = self._open[key], valid_HW[part]
                place = (
                    top + rows.start - row * self._side,
                    left + columns.start - column * self._side,
                )
                cell.totals.update(prediction_HW[part], valid, *place, areas_ha[part])
                cell.seen += valid.size
                cell.valid += int(valid.sum())
                if cell.seen == self._side**2:
                    self._finish(self._open.pop(key))

    def result(self) -> dict[str, float]:
        """Whole cells and the share of them within the requirement; nothing without a cell."""
        if not self._whole:
            return {}
        return {"gedi_cells": self._whole, "gedi_cells_within": self._within / self._whole}

    def _finish(self, cell: _Cell) -> None:
        if cell.valid < cell.seen:
            return
        total = cell.totals.total()
        most = max(_MOST_MG_PER_HA, _MOST_OF_MEAN * total.mean)
        self._whole += 1
        self._within += total.standard_error <= most


def _cut(start: int, length: int, side: int) -> list[tuple[int, slice]]:
    """Cells along an axis of a block, each with its part of the block."""
    cells = range(start // side, -(-(start + length) // side))
    return [
        (cell, slice(max(0, cell * side - start), min(length, (cell + 1) * side - start)))
        for cell in cells
    ]
