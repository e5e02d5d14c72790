import struct

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from biomassters.io.raster import encode_raster
from biomassters.io.tiff_strips import parse_strip_layout

ARRAY = np.arange(3 * 20 * 16, dtype=np.uint16).reshape(3, 20, 16)


def encoded(array: np.ndarray, **options: object) -> bytes:
    count, height, width = array.shape
    place = {"transform": rasterio.Affine(10, 0, 5e5, 0, -10, 7e6)}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=count,
            height=height,
            width=width,
            dtype=array.dtype.name,
            **place,
            **options,
        ) as target:
            target.write(array)
        return bytes(memory.read())


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("endianness", ["little", "big"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_uncompressed_strips(interleave: str, endianness: str, dtype: str) -> None:
    array = ARRAY.astype(dtype)
    data = encoded(array, interleave=interleave, endianness=endianness)
    layout = parse_strip_layout(data)
    assert layout is not None
    assert (layout.height, layout.width, layout.bands) == (20, 16, 3)
    assert layout.by_pixel == (interleave == "pixel")
    assert layout.georeferenced
    np.testing.assert_array_equal(layout.pixels(data), array)


def test_last_strip_filled_up() -> None:
    # GDAL does so where the last strip is 0: 3 strips of 7 rows for 20 rows.
    assert parse_strip_layout(encoded(ARRAY * 0, interleave="pixel", blockysize=7)) is None


def test_one_strip_and_one_band() -> None:
    layout = parse_strip_layout(encoded(ARRAY[:1], blockysize=20))
    assert layout is not None
    assert (layout.bands, layout.dtype) == (1, np.uint16)


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "deflate"},
        {"compress": "lzw", "predictor": 2},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"BIGTIFF": "YES"},
        {"nbits": 12},
    ],
)
def test_anything_else_is_left_to_gdal(options: dict[str, object]) -> None:
    assert parse_strip_layout(encoded(ARRAY, **options)) is None


@pytest.mark.parametrize("data", [b"", b"II*\0", b"PK\3\4" + bytes(100), bytes(8)])
def test_no_tiff(data: bytes) -> None:
    assert parse_strip_layout(data) is None


def test_strips_out_of_order() -> None:
    data = bytearray(encode_raster(ARRAY[0], None))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry) == (273,):  # offset of the only strip
            struct.pack_into("<HHII", data, entry, 273, 4, 2, len(data))
    assert parse_strip_layout(bytes(data) + struct.pack("<II", 8, 300)) is None


@settings(deadline=None)
@given(st.data())
def test_damaged_headers_never_fail_otherwise(data: st.DataObject) -> None:
    image = bytearray(encode_raster(ARRAY[:, :4, :4], None))
    layout = parse_strip_layout(image)
    assert layout is not None
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, layout.offset - 1))
        image[place] = data.draw(st.integers(0, 255))
    parse_strip_layout(image[: data.draw(st.integers(0, len(image)))])
