"""How large pixels are on the ground, in any coordinate system.

A pixel of a map projection has the area that its projection gives it: in Web Mercator at 62° N
it counts 4.5 times too much, in feet 10.8 times. Here a pixel's corners go to an equal-area
projection around the raster's own middle (Lambert's azimuthal one on the same ellipsoid; Snyder
1987, "Map projections: a working manual", US Geological Survey Professional Paper 1395, p. 182),
and its sides are geodesics (Karney 2013, "Algorithms for geodesics", Journal of Geodesy 87).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from biomassters.errors import BadInputError

_STEP = 64  # pixels between those that are measured; what lies between them is interpolated
_M2_PER_HA = 10_000
_CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))  # row, column; once around


@dataclass(frozen=True)
class GroundPixels:
    """Pixels of a raster, measured on the ground."""

    crs: str  # coordinate system, as WKT, ``EPSG:…`` or PROJ's own text
    transform: tuple[float, ...]  # affine coefficients a, b, c, d, e, f (pixel to map units)
    height: int  # rows
    width: int  # columns

    def areas_ha(
        self, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None
    ) -> NDArray[np.float64]:
        """Area of each pixel of a window within the raster, float64 [h, w], ha.

        It takes memory for the window alone.

        Raises:
            BadInputError: The coordinate system says nothing of the ground there.
        """
        height = self.height - top if height is None else height
        width = self.width - left if width is None else width
        rows, columns = _measured(top, height, self.height), _measured(left, width, self.width)
        measured_ha = self._measured_ha(*np.meshgrid(rows, columns, indexing="ij"))
        across_ha = _interpolated(measured_ha.T, columns, left, width).T
        return _interpolated(across_ha, rows, top, height)

    def sides_m(self) -> NDArray[np.float64]:
        """Width and height of the pixels at the four corners and in the middle, [5, 2], metres.

        Raises:
            BadInputError: The coordinate system says nothing of the ground there.
        """
        bottom, right = self.height - 1, self.width - 1
        rows = np.array([0, 0, bottom, bottom, bottom / 2])
        columns = np.array([0, right, 0, right, right / 2])
        edges = (
            ((rows + 0.5, columns), (rows + 0.5, columns + 1)),  # left and right: the width
            ((rows, columns + 0.5), (rows + 1, columns + 0.5)),
        )
        lengths_m = []
        for edge in edges:
            start, end = (self._moved(self._to_degrees, *place) for place in edge)
            lengths_m.append(self._geod.inv(*start, *end)[2])
        return np.stack(lengths_m, axis=1)

    def _measured_ha(
        self, rows: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """By the shoelace formula; a pixel's sides bend by far less than it is wide."""
        corners = [self._moved(self._to_equal_area, rows + y, columns + x) for y, x in _CORNERS]
        # From the pixel's own corner, or the digits of far coordinates would be lost.
        east, north = np.array(corners).swapaxes(0, 1) - np.array(corners[0])[:, None]
        doubled = east * np.roll(north, -1, axis=0) - np.roll(east, -1, axis=0) * north
        found: NDArray[np.float64] = np.abs(doubled.sum(axis=0)) / 2 / _M2_PER_HA
        return found

    def _moved(
        self, way: Transformer, rows: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        a, b, c, d, e, f = self.transform
        x, y = way.transform(a * columns + b * rows + c, d * columns + e * rows + f)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise BadInputError(
                f"Pixels of this raster lie where its coordinate system ({self._crs.name}) has no "
                "place on the ground: check its transform."
            )
        return np.asarray(x), np.asarray(y)

    @cached_property
    def _crs(self) -> CRS:
        try:
            crs = CRS.from_user_input(self.crs)
            if crs.ellipsoid is not None and crs.geodetic_crs is not None:
                return crs
        except ProjError:
            pass
        raise BadInputError(
            f"The coordinate system {self.crs[:80]!r} says nothing of the ground: give the raster "
            "one such as EPSG:3067."
        )

    @cached_property
    def _geod(self) -> Geod:
        ellipsoid = self._crs.ellipsoid
        assert ellipsoid is not None
        return Geod(a=ellipsoid.semi_major_metre, b=ellipsoid.semi_minor_metre)

    @cached_property
    def _to_degrees(self) -> Transformer:
        return self._way("longlat")

    @cached_property
    def _to_equal_area(self) -> Transformer:
        middle = self._moved(
            self._to_degrees, np.array([self.height / 2]), np.array([self.width / 2])
        )
        east, north = (float(one[0]) for one in middle)
        return self._way("laea", lon_0=east, lat_0=north)

    def _way(self, projection: str, **place: float) -> Transformer:
        ellipsoid = {"a": self._geod.a, "b": self._geod.b}
        target = CRS.from_dict({"proj": projection, **place, **ellipsoid, "type": "crs"})
        return Transformer.from_crs(self._crs, target, always_xy=True)


def _measured(start: int, length: int, whole: int) -> NDArray[np.float64]:
    """Numbers of the pixels that are measured for a window: the same whatever the window."""
    first, last = start // _STEP, -(-(start + length) // _STEP)
    return np.unique(np.minimum(np.arange(first, last + 1) * _STEP, whole - 1)).astype(float)


def _interpolated(
    values: NDArray[np.float64], measured: NDArray[np.float64], start: int, length: int
) -> NDArray[np.float64]:
    """From [measured, n] to [length, n], linearly."""
    wanted = np.arange(start, start + length)
    return np.stack([np.interp(wanted, measured, column) for column in values.T], axis=1)
