"""The map as a Cloud-optimised GeoTIFF, read back before it takes its name."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.errors import BadInputError
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.regions.assembly import BANDS, MapPiece
from biomassters.regions.grid import Grid

DESCRIPTIONS = {
    "AGB": ("Aboveground biomass density", "Mg/ha"),
    "AGB_lower": ("Lower end of the interval of AGB", "Mg/ha"),
    "AGB_upper": ("Upper end of the interval of AGB", "Mg/ha"),
    "months_used": ("Months with data at the pixel", "1"),
}
_TILE = 512
_CACHE_BYTES = 32 * 2**20  # a whole row of tiles of a wide map would never fit anyway
BYTES_PER_PIXEL = 4 * len(BANDS)


def write_cog(path: Path, grid: Grid, pieces: Iterable[MapPiece], tags: Mapping[str, str]) -> None:
    """Write a map, check it, and give it its name.

    Args:
        path: The file; replaced whole or not at all. Two unfinished ones appear beside it.
        grid: Where the pixels lie.
        pieces: They tile the grid; each is written and forgotten.
        tags: Metadata of the whole file.

    Raises:
        BadInputError: The disk holds other values than were written, or is full.
    """
    import rasterio

    plain, cog = (path.with_name(f".{path.name}.{kind}.tif") for kind in ("plain", "cog"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with gdal_environment(GDAL_CACHEMAX=_CACHE_BYTES):
            checksums = _write_plain(plain, grid, pieces, tags)
            _add_overviews(plain, max(grid.shape))
            _to_cog(plain, cog)
            _compare(cog, checksums)
        cog.replace(path)
    except (rasterio.errors.RasterioError, OSError) as error:
        cause = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise BadInputError(
            f"The map {path} can't be written ({cause}): free some space or choose another place, "
            "and run again; finished blocks are kept."
        ) from error
    finally:
        plain.unlink(missing_ok=True)
        cog.unlink(missing_ok=True)


def _write_plain(
    path: Path, grid: Grid, pieces: Iterable[MapPiece], tags: Mapping[str, str]
) -> list[tuple[Any, int]]:
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
            window = _rasterio_window(piece)
            file.write(piece.values, window=window)
            checksums.append((window, _checksum(piece.values)))
    return checksums


def _describe(file: Any, tags: Mapping[str, str]) -> None:
    from rasterio.enums import ColorInterp

    file.descriptions = BANDS
    file.units = tuple(DESCRIPTIONS[name][1] for name in BANDS)
    file.scales, file.offsets = (1.0,) * len(BANDS), (0.0,) * len(BANDS)
    file.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (len(BANDS) - 1)
    file.update_tags(**tags)
    for number, name in enumerate(BANDS, 1):
        file.update_tags(number, long_name=DESCRIPTIONS[name][0], units=DESCRIPTIONS[name][1])


def _add_overviews(path: Path, longest: int) -> None:
    """Halve the map until it is one tile; the COG driver's own ones take memory with the width."""
    from rasterio.enums import Resampling

    factors = [2**step for step in range(1, longest.bit_length()) if longest >> (step - 1) > _TILE]
    with open_raster(path, "r+") as file:
        file.build_overviews(factors, Resampling.average)


def _to_cog(plain: Path, cog: Path) -> None:
    from rasterio.shutil import copy

    copy(
        plain, cog, driver="COG", blocksize=_TILE, compress="deflate", level=6,
        predictor="floating_point", bigtiff="if_safer", num_threads=1,
    )  # fmt: skip


def _compare(path: Path, checksums: list[tuple[Any, int]]) -> None:
    """Read everything back: the values that were computed, in a valid COG."""
    from rio_cogeo.cogeo import cog_validate

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


def _rasterio_window(piece: MapPiece) -> Any:
    from rasterio.windows import Window

    window = piece.window
    return Window(window.left, window.top, window.width, window.height)
