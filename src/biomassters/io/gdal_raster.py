"""One raster through GDAL: anything that is not plain strips, and where a raster lies."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.io.gdal_open import gdal_environment, open_bytes, open_raster
from biomassters.io.raster_spec import DamagedFileError, Georeference, RasterSpec
from biomassters.io.storage import Place, is_url, read

# rasterio is imported where it is used: it takes long, and official archives rarely need it.

MOST_RASTER_BYTES = 256 * 2**20  # of one file of an archive: 40 times the largest of BioMassters


def read_with_gdal(
    path: Place, data: memoryview, expected: RasterSpec | None
) -> tuple[NDArray, Georeference | None]:
    """Reads a raster [bands, height, width] of any kind and where it lies.

    Args:
        path: A local file, which GDAL opens itself, or a URL.
        data: Its bytes.
        expected: What it should be, or None for anything.

    Raises:
        DamagedFileError: If it can't be read or isn't as expected.
    """
    with _opened(path, data) as source:
        fault = _fault(source, expected)
        if fault is not None:
            raise DamagedFileError(path, fault)
        return source.read(), _georeference(source)


def read_size_with_gdal(path: Place, data: memoryview) -> tuple[int, int]:
    """Height and width in pixels; arguments as of ``read_with_gdal``.

    Raises:
        DamagedFileError: If the raster can't be read.
    """
    with _opened(path, data) as source:
        return source.height, source.width


def read_georeference(path: Place) -> Georeference | None:
    """Where a raster lies, or None if it doesn't say.

    Raises:
        DamagedFileError: If it can't be read.
    """
    data = memoryview(read(str(path)) if is_url(path) else b"")
    with _opened(path, data) as source:
        return _georeference(source)


def encode_with_gdal(
    bands: NDArray,
    georeference: Georeference | None,
    band_names: tuple[str, ...] = (),
    tags: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The bytes of an uncompressed GeoTIFF of [bands, height, width], pixel by pixel.

    With tags it is a map of ours: it also says that NaN is no data, and the unit of its bands.
    """
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    count, height, width = bands.shape
    place = {}
    if georeference is not None:
        place = {"crs": georeference.crs, "transform": Affine(*georeference.transform)}
    profile = {"driver": "GTiff", "interleave": "pixel", "dtype": bands.dtype.name, **place}
    with MemoryFile() as memory:
        with (
            _without_georeference_warning(),
            memory.open(count=count, height=height, width=width, **profile) as target,
        ):
            # Before the pixels, so that the names stand before them in the file.
            for number, name in enumerate(band_names, start=1):
                target.set_band_description(number, name)
            if tags:
                target.nodata = float("nan")
                target.units = (dict(tags)["units"],) * count
                target.update_tags(**dict(tags))
            target.write(bands)
        return memory.read()


@contextmanager
def _opened(path: Place, data: memoryview | None) -> Iterator[Any]:
    """A local file, or bytes that came from a URL."""
    from rasterio.errors import RasterioError

    damage: DamagedFileError | None = None
    try:
        with gdal_environment(), ExitStack() as stack:
            with _without_georeference_warning():
                if data is not None and is_url(path):
                    source = stack.enter_context(open_bytes(data, str(path)))
                else:
                    source = stack.enter_context(open_raster(path))
            yield source
    except (RasterioError, OSError) as error:
        damage = DamagedFileError(path, f"can't be read as a TIFF ({_said(error)})")
    if damage is not None:
        # Raised out here, without GDAL's exception as its context: that one can't be pickled,
        # and Dask sends an exception from its worker together with its context.
        raise damage


_warning_filters = threading.Lock()


@contextmanager
def _without_georeference_warning() -> Iterator[None]:
    """Chips of the official archive lie nowhere: rasterio need not say so for each."""
    from rasterio.errors import NotGeoreferencedWarning

    with _warning_filters, warnings.catch_warnings():  # the filters belong to all threads
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _georeference(source: Any) -> Georeference | None:
    if source.crs is None:
        return None
    return Georeference(source.crs.to_string(), tuple(source.transform)[:6])


def decode_with_gdal(content: bytes, name: str, most_bytes: int) -> NDArray:
    """The pixels [bands, height, width] of a raster's bytes.

    Args:
        content: The file.
        name: For messages.
        most_bytes: What its pixels may take; nothing larger is decoded.

    Raises:
        DamagedFileError: If it can't be read or is larger.
    """
    from rasterio.errors import RasterioError

    if not content:
        raise DamagedFileError(name, "is empty")
    try:
        with (
            gdal_environment(),
            _without_georeference_warning(),
            open_bytes(content, name) as source,
        ):
            fault = _size_fault(source, most_bytes)
            if fault is not None:
                raise DamagedFileError(name, fault)
            pixels: NDArray = source.read()
            return pixels
    except (RasterioError, OSError, ValueError) as error:
        if isinstance(error, DamagedFileError):
            raise
        raise DamagedFileError(name, f"can't be read as a TIFF ({_said(error)})") from error


def _said(error: Exception) -> str:
    """What GDAL says of a file; rasterio itself says only "see previous exception"."""
    return " ".join(str(error.__cause__ or error).split()).rstrip(".")


def _fault(source: Any, expected: RasterSpec | None) -> str | None:
    """Why the pixels of a file are not decoded."""
    if expected is not None:
        return expected.fault(source.count, source.dtypes[0], (source.height, source.width))
    return _size_fault(source, MOST_RASTER_BYTES)


def _size_fault(source: Any, most_bytes: int) -> str | None:
    size = source.count * source.height * source.width * np.dtype(source.dtypes[0]).itemsize
    if size > most_bytes:
        return f"declares {source.count} bands of {source.height:,} x {source.width:,} pixels"
    return None
