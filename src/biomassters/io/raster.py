"""Read and write one GeoTIFF of the archive.

Uncompressed strips, as the official archive has them, are read as raw bytes; anything else
goes through GDAL. Both ways release the interpreter lock, and every function may be called
from many threads.
"""

import os
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.io.gdal_raster import (
    MOST_RASTER_BYTES,
    encode_with_gdal,
    read_georeference,
    read_size_with_gdal,
    read_with_gdal,
)
from biomassters.io.raster_spec import DamagedFileError, Georeference, RasterSpec
from biomassters.io.regular_file import IrregularFileError, open_regular
from biomassters.io.storage import Place, is_url, read
from biomassters.io.tiff_strips import StripLayout, parse_strip_layout


def read_raster(
    path: Place, expected: RasterSpec | None = None
) -> tuple[NDArray, Georeference | None]:
    """Reads a raster and where it lies.

    Args:
        path: A TIFF, or its URL.
        expected: What it should be, or None for anything.

    Returns:
        Its values [bands, height, width], in native byte order, and its georeference.

    Raises:
        DamagedFileError: If it can't be read or isn't as expected.
    """
    data = read_file(path)
    layout = _layout(path, data)
    if layout is None:
        return read_with_gdal(path, data, expected)
    if expected is not None:
        _check(path, layout, expected)
    values = layout.pixels(data).astype(layout.dtype.newbyteorder("="), order="C")
    return values, read_georeference(path) if layout.georeferenced else None


def read_raster_into(path: Place, out: NDArray, fetched: bytes | None = None) -> bool:
    """Reads a raster into an array whose type and shape state what it should be.

    Args:
        path: A TIFF, or its URL.
        out: [bands, height, width]; undefined after an error.
        fetched: Its bytes, where they are at hand.

    Returns:
        Whether the file may say where it lies (see ``read_georeference``).

    Raises:
        DamagedFileError: If it can't be read or has another size, type or band count.
    """
    expected = RasterSpec(out.shape[0], out.dtype, (out.shape[1], out.shape[2]))
    data = read_file(path, fetched)
    layout = _layout(path, data)
    if layout is None:
        out[:], georeference = read_with_gdal(path, data, expected)
        return georeference is not None
    _check(path, layout, expected)
    out[:] = layout.pixels(data)
    return layout.georeferenced


def view_pixels(path: Place, data: memoryview, expected: RasterSpec) -> NDArray:
    """A raster's pixels in the bytes of its file, where they lie so.

    Args:
        path: The file or its URL, for messages, and for GDAL where the pixels of a local file
            don't lie in one piece.
        data: Its bytes.
        expected: What it should be.

    Returns:
        Its values [bands, height, width]; a view of ``data`` if possible.

    Raises:
        DamagedFileError: If it isn't as expected.
    """
    layout = _layout(path, data)
    if layout is None:
        return read_with_gdal(path, data, expected)[0]
    _check(path, layout, expected)
    return layout.pixels(data)


def read_size(path: Place) -> tuple[int, int]:
    """Height and width of a raster in pixels, from its header.

    Raises:
        DamagedFileError: If it can't be read.
    """
    data = read_file(path)
    layout = _layout(path, data)
    return (layout.height, layout.width) if layout is not None else read_size_with_gdal(path, data)


def write_raster(
    path: Path | str,
    array: NDArray,
    georeference: Georeference | None = None,
    band_names: tuple[str, ...] = (),
    tags: tuple[tuple[str, str], ...] = (),
) -> None:
    """Writes a GeoTIFF with the structure of the official files.

    Args:
        path: The file, replaced whole or not at all.
        array: [bands, height, width] or [height, width].
        georeference: Where it lies.
        band_names: Of each band, for whoever opens the file; or none.
        tags: Of the file, ``units`` among them; or none.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_bytes(encode_raster(array, georeference, band_names, tags))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def encode_raster(
    array: NDArray,
    georeference: Georeference | None = None,
    band_names: tuple[str, ...] = (),
    tags: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The bytes of a GeoTIFF: uncompressed strips, the bands of one pixel together.

    Args:
        array: [bands, height, width] or [height, width].
        georeference: Where it lies.
        band_names: Of each band, or none.
        tags: Of the file, ``units`` among them; or none.
    """
    bands = array[None] if array.ndim == 2 else array
    dtype = bands.dtype.newbyteorder("<")
    pixels = np.ascontiguousarray(bands.transpose(1, 2, 0), dtype)
    return _header(dtype, bands.shape, georeference, band_names, tags) + pixels.tobytes()


@lru_cache(maxsize=32)
def _header(
    dtype: np.dtype,
    shape: tuple[int, ...],
    georeference: Georeference | None,
    band_names: tuple[str, ...],
    tags: tuple[tuple[str, str], ...],
) -> bytes:
    """What precedes the pixels: GDAL makes it once, for it takes longer than the pixels."""
    # Ones: strips of zeros GDAL writes last, and fills up the very last one.
    ones = np.ones(shape, dtype.newbyteorder("="))
    data = encode_with_gdal(ones, georeference, band_names, tags)
    layout = parse_strip_layout(data)
    assert layout is not None
    assert (layout.by_pixel, layout.dtype, layout.end) == (True, dtype, len(data))
    return data[: layout.offset]


_scratch = threading.local()


def read_file(path: Place, fetched: bytes | None = None) -> memoryview:
    """A file's bytes, in a buffer that the thread's next call overwrites.

    Args:
        path: The file, or its URL.
        fetched: Its bytes, where they are at hand.

    Raises:
        DamagedFileError: If it can't be read or is empty.
    """
    if fetched is not None or is_url(path):
        return _read_object(str(path), fetched)
    filled = 0
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_RASTER_BYTES:
                raise DamagedFileError(path, f"has {size:,} bytes, more than any chip's image")
            if len(getattr(_scratch, "buffer", b"")) < size:
                _scratch.buffer = bytearray(size)
            view = memoryview(_scratch.buffer)[:size] if size else memoryview(b"")
            while filled < size and (count := file.readinto(view[filled:])):
                filled += count
    except IrregularFileError as error:
        raise DamagedFileError(path, f"is {error.kind}, not a file") from None
    except OSError as error:
        raise DamagedFileError(path, f"can't be read ({error.strerror})") from error
    if filled == 0:
        raise DamagedFileError(path, "is empty")
    return view[:filled]


def _read_object(url: str, fetched: bytes | None) -> memoryview:
    try:
        data = read(url) if fetched is None else fetched
    except FileNotFoundError:
        raise DamagedFileError(url, "has vanished") from None
    if not data:
        raise DamagedFileError(url, "is empty")
    return memoryview(data)


_known: dict[int, tuple[bytes, StripLayout]] = {}  # file size: header, layout


def _layout(path: Place, data: memoryview) -> StripLayout | None:
    """A file's layout. Files of one kind share their header, so it is parsed once."""
    header, layout = _known.get(len(data), (b"", None))
    if layout is not None and data[: len(header)] == header:
        return layout
    layout = parse_strip_layout(data)
    if layout is None:
        return None
    if layout.end > len(data):
        raise DamagedFileError(path, f"is truncated ({len(data)} of {layout.end} bytes)")
    if layout.end == len(data):  # so that no tag lies behind the pixels
        _known[len(data)] = (bytes(data[: layout.offset]), layout)
    return layout


def _check(path: Place, layout: StripLayout, expected: RasterSpec) -> None:
    fault = expected.fault(layout.bands, layout.dtype.name, (layout.height, layout.width))
    if fault is not None:
        raise DamagedFileError(path, fault)
