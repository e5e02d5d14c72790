"""Many polygons as three arrays: 200,000 of them as GeoJSON's lists took 700 MB and 44 s."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform

from biomassters.regions.grid import Grid

Rings = list[NDArray[np.float64]]  # of one polygon, the outer one first; [N, 2] each
_POSITIONS = 100_000  # moved at once: GDAL gives them back as Python's numbers
_SHAPES = 500  # drawn at once, which makes lists of them


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons that may overlap; each position x before y.

    Attributes:
        positions: float64 [N, 2], ring after ring.
        rings: int64 [R + 1], where each ring begins in ``positions``, and N.
        polygons: int64 [P + 1], where each polygon begins in ``rings``, and R.
    """

    positions: NDArray[np.float64]
    rings: NDArray[np.int64]
    polygons: NDArray[np.int64]

    @classmethod
    def of(cls, polygons: Sequence[Rings]) -> "Polygons":
        """From the rings of at least one polygon."""
        rings = list(chain.from_iterable(polygons))
        return cls(np.concatenate(rings), _starts(rings), _starts(polygons))

    @property
    def bounds(self) -> NDArray[np.float64]:
        """West, south, east, north of each, [P, 4]."""
        first = self.rings[self.polygons[:-1]]
        lowest, highest = (end.reduceat(self.positions, first) for end in (np.minimum, np.maximum))
        return np.hstack([lowest, highest])

    def moved(self, source: CRS, target: CRS) -> "Polygons":
        """The same in another coordinate system.

        Raises:
            Exception: GDAL's, which rasterio has no public name for: a position has no place there.
        """
        positions = np.empty_like(self.positions)
        for at in range(0, len(positions), _POSITIONS):
            x, y = self.positions[at : at + _POSITIONS].T.tolist()  # faster than arrays
            positions[at : at + _POSITIONS] = np.stack(transform(source, target, x, y), axis=1)
        return Polygons(positions, self.rings, self.polygons)

    def inside(self, part: Grid) -> NDArray[np.bool_]:
        """Pixels whose centre lies in at least one polygon, [h, w]."""
        west, south, east, north = part.bounds
        lefts, bottoms, rights, tops = self.bounds.T
        near = (lefts <= east) & (rights >= west) & (bottoms <= north) & (tops >= south)
        numbers = near.nonzero()[0]
        found = np.zeros(part.shape, np.uint8)
        for at in range(0, len(numbers), _SHAPES):
            some = map(self._shape, numbers[at : at + _SHAPES])
            rasterize(some, out=found, transform=part.transform)
        return found.view(bool)

    def digest(self) -> str:
        """SHA-256 of all positions and of which belong together."""
        arrays = (self.positions, self.rings, self.polygons)
        return sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def _shape(self, number: int) -> dict[str, Any]:
        """One polygon as rasterio takes it."""
        first, end = self.polygons[number : number + 2]
        ends = self.rings[first : end + 1]
        return {
            "type": "Polygon",
            "coordinates": [self.positions[start:stop].tolist() for start, stop in pairwise(ends)],
        }


def _starts(parts: Sequence[Any]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, parts)])
