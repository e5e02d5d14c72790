"""Read and write one GeoTIFF of a chip.

Uncompressed strips, as the official archive has them, are read as raw bytes
(``tiff_strips.py``); anything else goes through GDAL (``gdal.py``). Both ways release the GIL, and
every function may be called from many threads. ``raster_spec.py`` says what a file should be.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.io.files import IrregularFileError, open_regular
from biomassters.io.gdal import GEOTIFF, gdal_environment, open_bytes, open_raster
from biomassters.io.raster_spec import DamagedFileError, Georeference, RasterSpec
from biomassters.io.storage import Place, is_url, read
from biomassters.io.tiff_strips import StripLayout, parse_strip_layout

# rasterio is imported where it is used: it takes long, and official archives rarely need it.

MOST_RASTER_BYTES = 256 * 2**20  # of one file of an archive: 40 times the largest of BioMassters


# ---- Reading


def read_raster(
    path: Place, expected: RasterSpec | None = None
) -> tuple[NDArray, Georeference | None]:
    """Values [bands, height, width] of a TIFF, in native byte order, and where it lies.

    Raises:
        DamagedFileError: It can't be read or isn't as expected.
    """
    data = read_file(path)
    layout = _layout(path, data, expected)
    if layout is None:
        return _read_with_gdal(path, data, expected)
    values = layout.pixels(data).astype(layout.dtype.newbyteorder("="), order="C")
    return values, read_georeference(path) if layout.georeferenced else None


def read_raster_into(path: Place, out: NDArray, fetched: bytes | None = None) -> bool:
    """Read a raster into an array [bands, height, width] whose type and shape are expected of it.

    Args:
        path: A TIFF, or its URL.
        out: Undefined after an error.
        fetched: Its bytes, where they are at hand.

    Returns:
        Whether the file may say where it lies (see ``read_georeference``).

    Raises:
        DamagedFileError: It can't be read or has another size, type or band count.
    """
    expected = RasterSpec(out.shape[0], out.dtype, (out.shape[1], out.shape[2]))
    data = read_file(path, fetched)
    layout = _layout(path, data, expected)
    if layout is None:
        out[:], georeference = _read_with_gdal(path, data, expected)
        return georeference is not None
    out[:] = layout.pixels(data)
    return layout.georeferenced


def view_pixels(path: Place, data: memoryview, expected: RasterSpec) -> NDArray:
    """Values [bands, height, width] in the bytes of a raster's file; a view of them if possible.

    Where the pixels of a local file don't lie in one piece, GDAL reads it at its ``path``.

    Raises:
        DamagedFileError: It isn't as expected.
    """
    layout = _layout(path, data, expected)
    return _read_with_gdal(path, data, expected)[0] if layout is None else layout.pixels(data)


def read_size(path: Place) -> tuple[int, int]:
    """Height and width of a raster in pixels, from its header.

    Raises:
        DamagedFileError: If it can't be read.
    """
    data = read_file(path)
    layout = _layout(path, data)
    if layout is not None:
        return layout.height, layout.width
    with _opened(path, data if is_url(path) else None) as source:
        return source.height, source.width


def read_georeference(path: Place) -> Georeference | None:
    """Where a raster lies, or None if it doesn't say.

    Raises:
        DamagedFileError: If it can't be read.
    """
    with _opened(path) as source:
        return _georeference(source)


def nan_is_nodata(path: Place, content: bytes | memoryview | None = None) -> bool:
    """Whether a raster says that NaN is no data, as the label of a partly labelled chip does.

    Its ``content`` is read from its path unless it is at hand.

    Raises:
        DamagedFileError: It can't be read.
    """
    with _opened(path, content) as source:
        return source.nodata is not None and bool(np.isnan(source.nodata))


def decode_with_gdal(content: bytes, name: str, most_bytes: int) -> NDArray:
    """The pixels [bands, height, width] of a raster's bytes; ``name`` is for messages.

    Raises:
        DamagedFileError: It can't be read, or its pixels would take more than ``most_bytes``.
    """
    if not content:
        raise DamagedFileError(name, "is empty")
    try:
        with _opened(name, content) as source:
            _require_size(source, name, most_bytes)
            pixels: NDArray = source.read()
            return pixels
    except DamagedFileError:
        raise
    except ValueError as error:  # blocks that no memory holds, or what GDAL itself refuses
        raise DamagedFileError(name, _unreadable(error)) from error


_scratch = threading.local()


def read_file(path: Place, fetched: bytes | None = None) -> memoryview:
    """A file's bytes (``fetched``, if at hand), in a buffer that the thread's next call overwrites.

    Raises:
        DamagedFileError: It can't be read or is empty.
    """
    try:
        if fetched is not None or is_url(path):
            view = memoryview(read(str(path)) if fetched is None else fetched)
        else:
            view = _read_local(path)
    except IrregularFileError as error:
        raise DamagedFileError(path, f"is {error.kind}, not a file") from None
    except OSError as error:
        if is_url(path):  # FileNotFoundError, the only one of ``read``
            raise DamagedFileError(path, "has vanished") from None
        raise DamagedFileError(path, f"can't be read ({error.strerror})") from error
    if not view:
        raise DamagedFileError(path, "is empty")
    return view


def _read_local(path: Place) -> memoryview:
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_RASTER_BYTES:
            raise DamagedFileError(path, f"has {size:,} bytes, more than any chip's image")
        if len(getattr(_scratch, "buffer", b"")) < size:
            _scratch.buffer = bytearray(size)
        view = memoryview(_scratch.buffer)[:size] if size else memoryview(b"")
        filled = 0
        while filled < size and (count := file.readinto(view[filled:])):
            filled += count
    return view[:filled]


_known: dict[int, tuple[bytes, StripLayout]] = {}  # file size: header, layout


def _layout(
    path: Place, data: memoryview, expected: RasterSpec | None = None
) -> StripLayout | None:
    """A file's layout, checked. Files of one kind share their header, so it is parsed once."""
    header, layout = _known.get(len(data), (b"", None))
    if layout is None or data[: len(header)] != header:
        layout = parse_strip_layout(data)
        if layout is None:
            return None
        if layout.end > len(data):
            raise DamagedFileError(path, f"is truncated ({len(data)} of {layout.end} bytes)")
        if layout.end == len(data):  # so that no tag lies behind the pixels
            _known[len(data)] = (bytes(data[: layout.offset]), layout)
    if expected is not None:
        expected.require(path, layout.bands, layout.dtype.name, (layout.height, layout.width))
    return layout


def _read_with_gdal(
    path: Place, data: memoryview, expected: RasterSpec | None
) -> tuple[NDArray, Georeference | None]:
    """``read_raster`` by GDAL, which opens a local file itself instead of taking its bytes."""
    with _opened(path, data if is_url(path) else None) as source:
        if expected is None:
            _require_size(source, path, MOST_RASTER_BYTES)
        else:
            size = source.height, source.width
            expected.require(path, source.count, source.dtypes[0], size)
        return source.read(), _georeference(source)


@contextmanager
def _opened(path: Place, content: bytes | memoryview | None = None) -> Iterator[Any]:
    """Rasterio's dataset of a local file, or of content that came from elsewhere."""
    from rasterio.errors import RasterioError

    if content is None and is_url(path):
        content = read(str(path))
    damage: DamagedFileError | None = None
    try:
        with gdal_environment(), ExitStack() as stack:
            with _without_georeference_warning():
                opened = open_raster(path) if content is None else open_bytes(content, str(path))
                source = stack.enter_context(opened)
            yield source
    except (RasterioError, OSError) as error:
        damage = DamagedFileError(path, _unreadable(error))
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


def _unreadable(error: Exception) -> str:
    # What GDAL says is the cause; rasterio itself says only "see previous exception".
    said = " ".join(str(error.__cause__ or error).split()).rstrip(".")
    return f"can't be read as a TIFF ({said})"


def _georeference(source: Any) -> Georeference | None:
    if source.crs is None:
        return None
    return Georeference(source.crs.to_string(), tuple(source.transform)[:6])


def _require_size(source: Any, path: Place, most_bytes: int) -> None:
    size = source.count * source.height * source.width * np.dtype(source.dtypes[0]).itemsize
    if size > most_bytes:
        raise DamagedFileError(
            path, f"declares {source.count} bands of {source.height:,} x {source.width:,} pixels"
        )


# ---- Writing


def write_raster(
    path: Path | str,
    array: NDArray,
    georeference: Georeference | None = None,
    band_names: tuple[str, ...] = (),
    tags: tuple[tuple[str, str], ...] = (),
) -> None:
    """Writes a GeoTIFF, replaced whole or not at all; arguments as of ``encode_raster``."""
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
    """The bytes of a GeoTIFF as the official files are: uncompressed strips, pixel by pixel.

    Args:
        array: [bands, height, width] or [height, width].
        georeference: Where it lies.
        band_names: Of each band, for whoever opens the file; or none.
        tags: Of the file, ``units`` among them; or none. With tags it is a map of ours: it also
            says that NaN is no data, and the unit of its bands.
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
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    count, height, width = shape
    profile: dict[str, Any] = {"driver": GEOTIFF, "interleave": "pixel", "dtype": dtype.name}
    if georeference is not None:
        profile |= {"crs": georeference.crs, "transform": Affine(*georeference.transform)}
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
            # Ones: strips of zeros GDAL writes last, and fills up the very last one.
            target.write(np.ones(shape, dtype.newbyteorder("=")))
        data = memory.read()
    layout = parse_strip_layout(data)
    assert layout is not None
    assert (layout.by_pixel, layout.dtype, layout.end) == (True, dtype, len(data))
    return data[: layout.offset]
