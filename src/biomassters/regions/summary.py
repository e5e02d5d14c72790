"""Numbers of a whole map, counted piece by piece."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from biomassters.regions.assembly import AGB, MONTHS, MapPiece
from biomassters.regions.grid import Grid
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.totals import CARBON_FRACTION, RegionTotals

HISTOGRAM_EDGES = np.arange(0.0, 510.0, 10.0)  # Mg/ha; the last class has no upper end
_M2_PER_HA = 10_000


class MapSummary:
    """Area, totals and histogram of a map.

    Args:
        grid: Of the map, in metres.
        errors: From held-out chips; None: totals without intervals, and without the correction
            of their bias.
    """

    def __init__(self, grid: Grid, errors: ErrorModel | None) -> None:
        self._pixel_ha = grid.pixel_size**2 / _M2_PER_HA
        self._totals = None if errors is None else RegionTotals(errors, grid.pixel_size)
        self._all_pixels = grid.height * grid.width
        self._pixels = 0
        self._sum = 0.0
        self._highest = 0.0
        self._counts = np.zeros(len(HISTOGRAM_EDGES), np.int64)
        self._months = np.zeros(13, np.int64)

    def watch(self, pieces: Iterator[MapPiece]) -> Iterator[MapPiece]:
        """Hand pieces on and count them on their way."""
        for piece in pieces:
            self.update(piece)
            yield piece

    def update(self, piece: MapPiece) -> None:
        """Take in a piece; each pixel of the map once."""
        agb = piece.values[AGB]
        valid = ~np.isnan(agb)
        known = agb[valid].astype(np.float64)
        self._pixels += known.size
        self._sum += float(known.sum())
        self._highest = max(self._highest, float(known.max(initial=0.0)))
        classes = np.searchsorted(HISTOGRAM_EDGES, known, side="right") - 1
        self._counts += np.bincount(np.maximum(classes, 0), minlength=len(HISTOGRAM_EDGES))
        self._months += np.bincount(piece.values[MONTHS][valid].astype(np.int64), minlength=13)
        if self._totals is not None:
            self._totals.update(agb, valid, piece.window.top, piece.window.left)

    def result(self) -> dict[str, Any]:
        """Ready for JSON; Mg are tonnes of dry matter or of carbon in the whole area."""
        area_ha, biomass_mg = self._pixels * self._pixel_ha, self._sum * self._pixel_ha
        plain = {
            "area_ha": area_ha,
            "share_mapped": self._pixels / max(1, self._all_pixels),
            "biomass_mg": biomass_mg,
            "carbon_mg": biomass_mg * CARBON_FRACTION,
            "mean_agb_mg_per_ha": self._sum / self._pixels if self._pixels else None,
            "carbon_fraction": CARBON_FRACTION,
        }
        totals = {} if self._totals is None or not self._pixels else self._totals.result()
        return {
            **plain,
            **totals,
            "mean_of_map_mg_per_ha": plain["mean_agb_mg_per_ha"],
            "highest_agb_mg_per_ha": self._highest,
            "intervals": bool(totals),
            "histogram": {
                "lower_edge_mg_per_ha": HISTOGRAM_EDGES.tolist(),
                "area_ha": (self._counts * self._pixel_ha).tolist(),
            },
            "area_ha_by_months_used": (self._months * self._pixel_ha).tolist(),
        }
