"""The one door to GDAL: every raster, ours or anybody's, is opened here.

GDAL opens what a file holds, whatever it is called: a text in place of a GeoTIFF may name other
files, or addresses that it then asks. So a file is opened with the one driver that it should
have, and a coordinate system is read from codes and definitions alone. A test sees to it that no
other ``rasterio.open`` exists. Chips' files are read in ``raster.py``.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from biomassters.errors import BadInputError
from biomassters.io.files import IrregularFileError, irregular
from biomassters.io.storage import is_url, require_bucket, time_limits_s

# rasterio is imported where it is used: it takes long, and official archives rarely need it.

GEOTIFF = "GTiff"  # also reads COGs
_JPEG_2000 = "JP2OpenJPEG"
_JPEG_2000_NAMES = (".jp2", ".j2k")
# Anything else that "://" introduces may unpack archives or chain drivers.
_SCHEMES = ("http", "https", "s3", "gs", "az")
_MOST_BLOCK_BYTES = 256 * 2**20  # GDAL reads whole blocks, however little is asked of one
_CRS_CODE = re.compile(r"(EPSG|ESRI|IGNF|OGC):\w+|urn:ogc:def:crs:[\w.:,-]+", re.IGNORECASE)
_WKT = re.compile(
    r"\s*(PROJCS|GEOGCS|COMPD_CS|GEOCCS|LOCAL_CS|(BASE)?(PROJ|GEOG|GEOD|COMPOUND|BOUND|ENG)\w*CRS"
    r"|GEODETICCRS|GEOGRAPHICCRS)\s*\[",
    re.IGNORECASE,
)
_LONGEST_CRS = 100_000


@contextmanager
def gdal_environment(**settings: Any) -> Iterator[None]:
    """GDAL's settings for whatever is opened and read within."""
    import rasterio

    connect_s, answer_s = time_limits_s()
    everywhere = {
        # Else GDAL lists the whole folder, 100,000 names, for each file, and opens what it finds
        # beside it.
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_CONNECTTIMEOUT": f"{connect_s:g}",
        "GDAL_HTTP_TIMEOUT": f"{answer_s:g}",
        # Credentials stay with the server that they are for.
        "CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT": "IF_SAME_HOST",
    }
    with rasterio.Env(**everywhere | settings):
        yield


def open_raster(place: Path | str, mode: str = "r", *, images: bool = False, **profile: Any) -> Any:
    """Open a raster, within ``gdal_environment``: rasterio's dataset.

    Args:
        place: A GeoTIFF; a regular file.
        mode: As of ``rasterio.open``.
        images: Whether it is an image of a region, which may lie at an address and may be
            JPEG 2000, by its name.
        profile: Of a file that is written.

    Raises:
        BadInputError: It is no regular file, lies at an address of an unknown kind, or has blocks
            that no memory holds.
        rasterio.errors.RasterioError: It can't be opened as what it should be.
    """
    import rasterio

    if is_url(place):
        if not images or str(place).partition("://")[0] not in _SCHEMES:
            schemes = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
            raise BadInputError(
                f"{place} can't be opened: give a file, or an address of {schemes}."
            )
        require_bucket(str(place))
    elif (found := irregular(place)) is not None:
        raise IrregularFileError(place, found)
    if mode != "r":
        return rasterio.open(place, mode, driver=GEOTIFF, **profile)
    # A relative path might begin with one of GDAL's prefixes; an absolute one has none but /vsi,
    # and no regular file lies there.
    if not is_url(place):
        place = Path(place).absolute()
        if place.parts[1:2] and place.parts[1].startswith("vsi"):
            place.stat()
    name = str(place).partition("?")[0].lower()
    driver = _JPEG_2000 if images and name.endswith(_JPEG_2000_NAMES) else GEOTIFF
    return _checked(rasterio.open(place, driver=driver), str(place))


@contextmanager
def open_bytes(content: bytes | memoryview, name: str) -> Iterator[Any]:
    """Open a GeoTIFF that lies in memory, within ``gdal_environment``; errors as ``open_raster``.

    It has at least one byte; messages call it by ``name``.
    """
    from rasterio.errors import RasterioError, RasterioIOError
    from rasterio.io import MemoryFile

    with MemoryFile(bytes(content)) as memory:
        try:
            with _checked(memory.open(driver=GEOTIFF), name) as file:
                yield file
        except RasterioError as error:
            # GDAL knows it by a name of its own, which no user has ever seen.
            said = str(error.__cause__ or error).replace(memory.name, name)
            raise RasterioIOError(said.replace(Path(memory.name).name, name)) from None


def _checked(file: Any, name: str) -> Any:
    """A file whose blocks fit into memory, and which names no other file."""
    fault = None
    by_pixel = file.interleaving is not None and file.interleaving.name == "pixel"
    for (height, width), dtype in zip(file.block_shapes, file.dtypes, strict=True):
        size = height * width * np.dtype(dtype).itemsize * (file.count if by_pixel else 1)
        if size > _MOST_BLOCK_BYTES:
            fault = f"has blocks of {size / 2**20:,.0f} MiB: write it in tiles of 512 pixels"
    # GDAL would open whatever a file names as its overviews, with any driver.
    if file.tags(ns="OVERVIEWS"):
        fault = "names another file as its overviews: write it anew"
    if fault is not None:
        file.close()
        raise BadInputError(f"{name} {fault}.")
    return file


def parse_crs(text: Any, what: str) -> Any:
    """The ``rasterio.crs.CRS`` that a file or a parameter (``what``, for the message) names.

    PROJ would fetch a definition from an address, and read one from a file: only codes
    (``EPSG:…``, ``OGC:…``, ``urn:ogc:def:crs:…``), WKT and PROJJSON are understood here.

    Raises:
        BadInputError: It is none of these, or unknown.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        text = json.dumps(text) if isinstance(text, dict) else str(text)
        known = _CRS_CODE.fullmatch(text) or _WKT.match(text) or text.lstrip().startswith("{")
        if known and len(text) <= _LONGEST_CRS:
            return CRS.from_user_input(text)
    except (CRSError, ValueError, RecursionError, TypeError):
        pass
    shown = str(text) if len(str(text)) <= 80 else f"{str(text)[:77]}..."
    raise BadInputError(f"{what}: {shown} is no coordinate system; try one such as EPSG:3067.")
