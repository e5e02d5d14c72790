"""Numbers of a whole map, counted piece by piece."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from biomassters.imagery.pixel_grid import Grid
from biomassters.regions.map_writer import AGB, MONTHS, MapPiece
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.totals import GediCells, RegionTotals

HISTOGRAM_EDGES = np.arange(0.0, 510.0, 10.0)  # Mg/ha; the last class has no upper end


class MapSummary:
    """Area, totals and histogram of a map.

    Args:
        grid: Of the map.
        carbon_fraction: Mg of carbon in a Mg of biomass.
        errors: From held-out chips; None: totals without intervals, and without the correction
            of their bias.
    """

    def __init__(self, grid: Grid, carbon_fraction: float, errors: ErrorModel | None) -> None:
        self._ground = grid.ground
        self._carbon_fraction = carbon_fraction
        self._corrected: tuple[RegionTotals, GediCells] | None = None
        if errors is not None:
            # Of the pixel in the middle; elsewhere within 1 %.
            pixel_m = float(self._ground.sides_m()[-1].mean())
            totals = RegionTotals(errors, pixel_m, None, carbon_fraction)
            self._corrected = totals, GediCells(errors, pixel_m)
        self._all_pixels = grid.height * grid.width
        self._pixels = 0
        self._area_ha = 0.0
        self._biomass_mg = 0.0
        self._highest = 0.0
        self._class_ha = np.zeros(len(HISTOGRAM_EDGES))
        self._months_ha = np.zeros(13)

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
        if not known.size:
            return
        top, left = piece.window.row_off, piece.window.col_off
        areas_ha = self._ground.areas_ha(top, left, *agb.shape)
        hectares = areas_ha[valid]
        self._pixels += known.size
        self._area_ha += float(hectares.sum())
        self._biomass_mg += float((known * hectares).sum())
        self._highest = max(self._highest, float(known.max()))
        classes = np.searchsorted(HISTOGRAM_EDGES, known, side="right") - 1
        self._class_ha += np.bincount(np.maximum(classes, 0), hectares, len(HISTOGRAM_EDGES))
        self._months_ha += np.bincount(piece.values[MONTHS][valid].astype(np.int64), hectares, 13)
        for one in self._corrected or ():
            one.update(agb, valid, top, left, areas_ha)

    def result(self) -> dict[str, Any]:
        """Ready for JSON; Mg are tonnes of dry matter or of carbon in the whole area.

        ``*_of_map_*`` are the sums of the map's pixels as they stand; the other totals are
        corrected for the bias on held-out chips where there is a calibration. ``gedi_cells`` and
        the share of them within GEDI's requirement are there where a square kilometre is whole.
        """
        mean = self._biomass_mg / self._area_ha if self._pixels else None
        found = {
            "area_ha": self._area_ha,
            "share_mapped": self._pixels / max(1, self._all_pixels),
            "biomass_mg": self._biomass_mg,
            "carbon_mg": self._biomass_mg * self._carbon_fraction,
            "mean_agb_mg_per_ha": mean,
            "carbon_fraction": self._carbon_fraction,
        }
        if self._corrected is not None:
            totals, cells = self._corrected
            found |= (totals.result() if self._pixels else {}) | cells.result()
        return {
            **found,
            "mean_of_map_mg_per_ha": mean,
            "biomass_of_map_mg": self._biomass_mg,
            "highest_agb_mg_per_ha": self._highest,
            "intervals": self._corrected is not None and self._pixels > 0,
            "histogram": {
                "lower_edge_mg_per_ha": HISTOGRAM_EDGES.tolist(),
                "area_ha": self._class_ha.tolist(),
            },
            "area_ha_by_months_used": self._months_ha.tolist(),
        }
