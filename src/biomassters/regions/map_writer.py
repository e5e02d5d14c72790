"""From finished blocks to the map: blended sums, clipped, with intervals, in one GeoTIFF.

The map is made piece by piece, so that it never is in memory as a whole, and is read back before
it takes its name. ``map_summary`` counts the pieces on their way.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window, intersection

from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import Grid, slices_in
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.messages import said_by
from biomassters.regions.blocks import BlockFolder, return_freed_memory
from biomassters.regions.tiling import Tiling
from biomassters.uncertainty.intervals import IntervalModel

DESCRIPTIONS = {
    "AGB": ("Aboveground biomass density", "Mg/ha"),
    "AGB_lower": ("Lower end of the interval of AGB", "Mg/ha"),
    "AGB_upper": ("Upper end of the interval of AGB", "Mg/ha"),
    "months_used": ("Months with data at the pixel", "1"),
}
"""What each band of a map holds, and its unit."""
BANDS = tuple(DESCRIPTIONS)
AGB, LOWER, UPPER, MONTHS = range(len(BANDS))
_TILE = 512
_CACHE_BYTES = 32 * 2**20  # a whole row of tiles of a wide map would never fit anyway
_OVERVIEWS = 4 / 3  # a pyramid of halves


@dataclass(frozen=True, eq=False)
class MapPiece:
    """Finished pixels.

    Attributes:
        window: Where, in the map.
        values: float32 [4, h, w], bands in the order of ``BANDS``; NaN where there is no data.
    """

    window: Window
    values: NDArray[np.float32]


def map_pieces(
    tiling: Tiling, folder: BlockFolder, intervals: IntervalModel | None, clip_negative: bool = True
) -> Iterator[MapPiece]:
    """The map, block by block, always the same.

    Args:
        tiling: Chips of the region.
        folder: All blocks.
        intervals: Of the pixels; None: their bands hold no data.
        clip_negative: Set negative biomass to 0.
    """
    for block in tiling.blocks():
        window = tiling.core(block)
        months = folder.months(block)
        values = np.full((len(BANDS), *months.shape), np.nan, np.float32)
        seen = months > 0
        if seen.any():
            agb = _blended(tiling, folder, window)[seen]
            agb = np.maximum(agb, 0) if clip_negative else agb
            values[AGB, seen] = agb
            values[MONTHS, seen] = months[seen]
            if intervals is not None:
                values[LOWER, seen], values[UPPER, seen] = intervals.bounds(agb)
        yield MapPiece(window, values)
        return_freed_memory()


def _blended(tiling: Tiling, folder: BlockFolder, window: Window) -> NDArray[np.float32]:
    """Σ weight · AGB of all chips; in the order of the blocks, or the last bits would differ."""
    total = np.zeros((window.height, window.width), np.float32)
    for block in tiling.touching(window):
        sums = folder.sums(block)
        if sums is not None:
            extent = tiling.extent(block)
            common = intersection(window, extent)
            total[slices_in(common, window)] += sums[slices_in(common, extent)]
    return total


def map_bytes(grid: Grid) -> int:
    """What a map takes while it is written: the plain file and the one that stays."""
    return int(grid.height * grid.width * 4 * len(BANDS) * (1 + _OVERVIEWS))


def write_cog(path: Path, grid: Grid, pieces: Iterable[MapPiece], tags: Mapping[str, str]) -> None:
    """Write a map as a Cloud-optimised GeoTIFF, check it, and give it its name.

    Args:
        path: The file; replaced whole or not at all. Two unfinished ones appear beside it.
        grid: Where the pixels lie.
        pieces: They tile the grid; each is written and forgotten.
        tags: Metadata of the whole file.

    Raises:
        BadInputError: The disk holds other values than were written, or is full.
    """
    plain, cog = (path.with_name(f".{path.name}.{kind}.tif") for kind in ("plain", "cog"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with gdal_environment(GDAL_CACHEMAX=_CACHE_BYTES):
            checksums = _write_plain(plain, grid, pieces, tags)
            # Halved until it is one tile; the COG driver's own ones take memory with the width.
            steps = range(1, max(grid.shape).bit_length())
            factors = [2**step for step in steps if max(grid.shape) >> (step - 1) > _TILE]
            with open_raster(plain, "r+") as file:
                file.build_overviews(factors, Resampling.average)
            copy(
                plain, cog, driver="COG", blocksize=_TILE, compress="deflate", level=6,
                predictor="floating_point", bigtiff="if_safer", num_threads=1,
            )  # fmt: skip
            _compare(cog, checksums)
        cog.replace(path)
    except (RasterioError, OSError) as error:
        raise BadInputError(
            f"The map {path} can't be written ({said_by(error)}): free some space or choose "
            "another place, and run again; finished blocks are kept."
        ) from error
    finally:
        plain.unlink(missing_ok=True)
        cog.unlink(missing_ok=True)


def _write_plain(
    path: Path, grid: Grid, pieces: Iterable[MapPiece], tags: Mapping[str, str]
) -> list[tuple[Window, int]]:
    """Write the pieces; where each lies and the CRC-32C of its values."""
    profile = {
        "count": len(BANDS), "dtype": "float32", "nodata": np.nan,
        "height": grid.height, "width": grid.width, "crs": grid.crs, "transform": grid.transform,
        "tiled": True, "blockxsize": _TILE, "blockysize": _TILE, "interleave": "band",
        "bigtiff": "if_safer", "sparse_ok": True,
    }  # fmt: skip
    checksums = []
    with open_raster(path, "w", **profile) as file:
        _describe(file, tags)
        for piece in pieces:
            file.write(piece.values, window=piece.window)
            checksums.append((piece.window, _checksum(piece.values)))
    return checksums


def _describe(file: Any, tags: Mapping[str, str]) -> None:
    file.descriptions = BANDS
    file.units = tuple(unit for _, unit in DESCRIPTIONS.values())
    file.scales, file.offsets = (1.0,) * len(BANDS), (0.0,) * len(BANDS)
    file.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (len(BANDS) - 1)
    file.update_tags(**tags)
    for number, (long_name, unit) in enumerate(DESCRIPTIONS.values(), 1):
        file.update_tags(number, long_name=long_name, units=unit)


def _compare(path: Path, checksums: list[tuple[Window, int]]) -> None:
    """Read everything back: the values that were computed, in a valid COG."""
    from rio_cogeo.cogeo import cog_validate  # takes long to import

    valid, faults, _ = cog_validate(path, quiet=True)
    if not valid:
        raise BadInputError(f"The map is no valid Cloud-optimised GeoTIFF: {'; '.join(faults)}.")
    with open_raster(path) as file:
        for window, expected in checksums:
            if _checksum(file.read(window=window)) != expected:
                raise BadInputError(
                    f"The disk returned other values than were written to {path.parent}: check the "
                    "disk, and run again."
                )


def _checksum(values: NDArray[np.float32]) -> int:
    return crc32c(np.ascontiguousarray(values).data)
