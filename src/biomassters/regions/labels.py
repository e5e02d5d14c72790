"""Labels of one's own on the chips' pixels: a raster or polygons, averaged by area, in Mg/ha.

A 10 m pixel that a forest's edge or a raster's end cuts through is labelled by what lies within,
if that is enough of it (``LabelOptions.minimum_valid``). ``chip_cutting`` makes chips of them.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject
from rasterio.windows import Window

from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import Bounds, Grid, bounds_between, clipped, slices_in
from biomassters.imagery.polygon_files import SUFFIXES, Polygons, read_valued_polygons
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.messages import said_by
from biomassters.regions.inputs.layers import RasterLayer
from biomassters.regions.options import LabelOptions

_SUBPIXELS = 5  # along a pixel's side, for polygons: 2 m, 4 % of its area each
_MOST_AGB = 10_000.0  # Mg/ha: above any forest's, and far below what a wrong unit gives


@dataclass(frozen=True, eq=False)
class Label:
    """Labels of a part of the land, in their own coordinates and unit.

    Attributes:
        path: Their file.
        source: A raster, or polygons with a value each.
        crs: Of the source.
        options: Unit, no data, share of a pixel.
    """

    path: Path
    source: RasterLayer | tuple[Polygons, NDArray[np.float32]]
    crs: CRS
    options: LabelOptions

    @classmethod
    def open(cls, path: Path, options: LabelOptions) -> "Label":
        """Look at a GeoTIFF, or read polygons: GeoJSON, GeoPackage, shapefile or KML.

        Raises:
            BadInputError: It can't be read, lies nowhere, has no such band, or no polygon has
                the attribute.
        """
        if path.suffix.lower() not in SUFFIXES:
            layer = _open_raster(path, options.band)
            return cls(path, layer, layer.grid.crs, options)
        polygons, values, crs = read_valued_polygons(path, options.attribute)
        if np.isnan(values).all():
            raise BadInputError(
                f"{path} has no polygon with the attribute {options.attribute!r}: name the one "
                "that holds the labels in chips_from_region.label.attribute."
            )
        return cls(path, (polygons, values), crs, options)

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in its own coordinates."""
        if isinstance(self.source, RasterLayer):
            return self.source.grid.bounds
        west, south = self.source[0].positions.min(axis=0).tolist()
        east, north = self.source[0].positions.max(axis=0).tolist()
        return west, south, east, north

    def read(self, grid: Grid, window: Window) -> NDArray[np.float32]:
        """Labels in a window of a grid, float32 [h, w], Mg/ha; NaN where there is none.

        Raises:
            BadInputError: A label is negative or larger than any forest's biomass.
            DamagedFileError: The raster can't be read.
        """
        target = grid.part(window)
        if isinstance(self.source, RasterLayer):
            mean, share = self._of_raster(self.source, target)
        else:
            mean, share = self._of_polygons(*_moved(self, target.crs), target)
        agb = (mean * self.options.mg_per_ha).astype(np.float32)
        agb[share < self.options.minimum_valid - 1e-6] = np.nan
        return agb

    def identity(self) -> list[Any]:
        """Which labels they are, for JSON."""
        status = self.path.stat()
        return [str(self.path), status.st_size, status.st_mtime_ns, self.options.model_dump()]

    def _of_raster(
        self, layer: RasterLayer, target: Grid
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean label and labelled share of each pixel: GDAL's average weighs by area."""
        there = layer.grid.window_of(bounds_between(target.crs, layer.grid.crs, target.bounds))
        grown = Window(there.col_off - 1, there.row_off - 1, there.width + 2, there.height + 2)
        part = clipped(grown, *layer.grid.shape)
        if part is None:
            return np.full(target.shape, np.nan), np.zeros(target.shape)
        values = layer.read(part)[0].astype(np.float64)
        if self.options.nodata is not None:
            values[values == np.float32(self.options.nodata)] = np.nan
        # What lies beyond the raster is unlabelled, not absent: a pixel half outside has half.
        around = np.zeros((2, grown.height, grown.width))
        inner = (slice(None), *slices_in(part, grown))
        labelled = np.isfinite(self._checked(values))
        around[inner] = np.where(labelled, values, 0.0), labelled
        out = np.zeros((2, *target.shape))
        source = layer.grid.part(grown)
        reproject(
            around, out, src_transform=source.transform, src_crs=source.crs,
            dst_transform=target.transform, dst_crs=target.crs,
            resampling=Resampling.average, num_threads=1,
        )  # fmt: skip
        total, share = out
        return np.where(share > 0, total / np.where(share > 0, share, 1.0), np.nan), share

    def _of_polygons(
        self, polygons: Polygons, values: NDArray[np.float32], target: Grid
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same, by the centres of sub-pixels."""
        height, width = target.shape
        fine = target.resized(height * _SUBPIXELS, width * _SUBPIXELS)
        drawn = self._checked(polygons.drawn(fine, values).astype(np.float64))
        cells = drawn.reshape(height, _SUBPIXELS, width, _SUBPIXELS)
        labelled = np.isfinite(cells).sum(axis=(1, 3))
        total = np.nansum(cells, axis=(1, 3))
        mean = np.where(labelled > 0, total / np.maximum(1, labelled), np.nan)
        return mean, labelled / _SUBPIXELS**2

    def _checked(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the file, if they can be labels."""
        lowest, highest = (float(end.reduce(values, axis=None)) for end in (np.fmin, np.fmax))
        if lowest < 0:
            raise BadInputError(
                f"{self.path} holds negative labels (down to {lowest:g} {self.options.unit}): if "
                "that means no label, state it in chips_from_region.label.nodata, else mend it."
            )
        if highest * self.options.mg_per_ha > _MOST_AGB:
            raise BadInputError(
                f"{self.path} holds labels of up to {highest:,.0f} {self.options.unit}, more than "
                "any forest has: state its unit and no data value in chips_from_region.label."
            )
        return values


@lru_cache(maxsize=2)
def _moved(label: Label, crs: CRS) -> tuple[Polygons, NDArray[np.float32]]:
    """Polygons in a map's coordinates, once for all windows."""
    assert not isinstance(label.source, RasterLayer)
    polygons, values = label.source
    return (polygons if label.crs == crs else polygons.moved(label.crs, crs)), values


def _open_raster(path: Path, band: int) -> RasterLayer:
    try:
        with gdal_environment(), open_raster(path, images=True) as file:
            crs, count = file.crs, file.count
            size = (file.transform, file.height, file.width)
    except (RasterioError, OSError) as error:
        raise BadInputError(
            f"{path} can't be opened as a label ({said_by(error)}): give a GeoTIFF, or polygons as "
            "GeoJSON, GeoPackage or shapefile."
        ) from error
    if crs is None:
        raise BadInputError(
            f"{path} has no coordinate system: give it one, for instance with 'rio edit-info "
            "--crs'."
        )
    if band > count:
        raise BadInputError(
            f"chips_from_region.label.band is {band}, but {path} has {count}: name one of these."
        )
    return RasterLayer(str(path), ("AGB",), (band,), Grid(crs, *size))
