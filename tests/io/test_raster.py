import logging
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from rasterio.errors import NotGeoreferencedWarning

from biomassters.io.raster import (
    encode_raster,
    read_raster,
    read_raster_into,
    read_size,
    write_raster,
)
from biomassters.io.raster_spec import DamagedFileError, Georeference, RasterSpec

S1_SPEC = RasterSpec(4, np.dtype("float32"), (8, 16))
IMAGE = np.random.default_rng(1).normal(-12, 3, (4, 8, 16)).astype(np.float32)
PLACE = Georeference("EPSG:32635", (10.0, 0.0, 500000.0, 0.0, -10.0, 7000000.0))


def write_tiff(path: Path, array: np.ndarray, **options: object) -> None:
    count, height, width = array.shape
    size = {"count": count, "height": height, "width": width, "dtype": array.dtype.name}
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", **size, **options) as target,
    ):
        target.write(array)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", IMAGE)
    values, georeference = read_raster(tmp_path / "a.tif", S1_SPEC)
    np.testing.assert_array_equal(values, IMAGE)
    assert values.dtype == np.float32
    assert values.flags["C_CONTIGUOUS"]
    assert georeference is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@settings(deadline=None, max_examples=50)
@given(
    npst.arrays(
        st.sampled_from([np.uint16, np.float32, np.dtype(">f4")]),
        npst.array_shapes(min_dims=2, max_dims=3, max_side=9),
    )
)
def test_any_array(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tif"
    write_raster(path, array)
    values, _ = read_raster(path)
    np.testing.assert_array_equal(values, array.reshape(values.shape))
    assert values.dtype.isnative


@pytest.mark.parametrize("name", ["S1_00", "S2_09"])
def test_written_like_the_official_files(sample_root: Path, name: str) -> None:
    path = sample_root / "train_features" / f"000aa810_{name}.tif"
    values, _ = read_raster(path)
    assert encode_raster(values) == path.read_bytes()


@pytest.mark.parametrize("size", [32, 64, 96])
def test_same_bytes_as_gdal(tmp_path: Path, size: int) -> None:
    image = np.random.default_rng(3).integers(0, 9999, (11, size, size)).astype(np.uint16)
    write_tiff(tmp_path / "gdal.tif", image, interleave="pixel")
    write_raster(tmp_path / "ours.tif", image)
    assert (tmp_path / "ours.tif").read_bytes() == (tmp_path / "gdal.tif").read_bytes()
    np.testing.assert_array_equal(read_raster(tmp_path / "ours.tif")[0], image)


def test_georeference(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_raster(path, IMAGE[0], PLACE)
    values, georeference = read_raster(path)
    assert georeference == PLACE
    np.testing.assert_array_equal(values, IMAGE[:1])
    with rasterio.open(path) as source:
        assert source.crs.to_epsg() == 32635
        assert source.block_shapes == [(8, 16)]
        assert tuple(source.bounds) == (500000, 6999920, 500160, 7000000)


def test_georeference_differs_between_files_of_one_size(tmp_path: Path) -> None:
    other = Georeference("EPSG:32634", (10.0, 0.0, 400000.0, 0.0, -10.0, 7000000.0))
    for place in (PLACE, other, None, PLACE):
        write_raster(tmp_path / "a.tif", IMAGE, place)
        assert read_raster(tmp_path / "a.tif")[1] == place


@pytest.mark.parametrize(
    "options",
    [
        {"interleave": "band"},
        {"endianness": "big"},
        {"compress": "deflate", "predictor": 3},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "zstd", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"BIGTIFF": "YES"},
    ],
)
@pytest.mark.filterwarnings("error")
def test_other_kinds_of_tiff(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, IMAGE, **options)
    filters = list(warnings.filters)
    values, georeference = read_raster(path, S1_SPEC)
    np.testing.assert_array_equal(values, IMAGE)
    assert georeference is None
    assert read_size(path) == (8, 16)
    assert warnings.filters == filters
    out = np.empty_like(IMAGE)
    assert read_raster_into(path, out) is False
    np.testing.assert_array_equal(out, IMAGE)


def test_compressed_keeps_its_georeference(tmp_path: Path) -> None:
    transform = rasterio.Affine(*PLACE.transform)
    write_tiff(tmp_path / "a.tif", IMAGE, compress="lzw", crs=PLACE.crs, transform=transform)
    assert read_raster(tmp_path / "a.tif")[1] == PLACE
    assert read_raster_into(tmp_path / "a.tif", np.empty_like(IMAGE)) is True


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "can't be read as a TIFF"),
        (encode_raster(IMAGE)[:100], "can't be read as a TIFF"),
        (encode_raster(IMAGE)[:-1], "is truncated"),
        (encode_raster(IMAGE[:3]), "has 3 bands instead of 4"),
        (encode_raster(IMAGE[:1]), "has 1 band instead of 4"),
        (encode_raster(IMAGE.astype("float64")), "holds float64 instead of float32 values"),
        (encode_raster(IMAGE[:, :4]), "has 4 x 16 pixels, the archive's other files 8 x 16"),
    ],
)
def test_damage(
    tmp_path: Path, content: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for read in (
        lambda: read_raster(path, S1_SPEC),
        lambda: read_raster_into(path, np.empty_like(IMAGE)),
    ):
        with pytest.raises(DamagedFileError) as caught:
            read()
        assert str(caught.value).startswith(f"{path} {caught.value.reason}: ")
        assert reason in caught.value.reason
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert caught.value.__context__ is None  # GDAL's exceptions can't travel to another process
    # Of this reader: other tests' forgotten sockets may be warned of at any moment.
    noise = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [record for record in noise if "rasterio" in record.name + record.getMessage()]


def test_damage_in_other_kinds_of_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, IMAGE, compress="deflate")
    with pytest.raises(DamagedFileError, match="has 4 bands instead of 11"):
        read_raster(path, RasterSpec(11, np.dtype("uint16")))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedFileError, match="can't be read as a TIFF"):
        read_raster(path, S1_SPEC)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="can't be read"):
        read_raster(tmp_path / "absent.tif")


def test_threads_do_not_mix_their_files(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    images = [random.integers(0, 999, (11, 32, 32)).astype(np.uint16) for _ in range(40)]
    for number, image in enumerate(images):
        path = tmp_path / f"{number}.tif"
        if number % 4:
            write_raster(path, image)
        else:
            write_tiff(path, image, compress="deflate")
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda n: read_raster(tmp_path / f"{n}.tif")[0], range(40)))
    np.testing.assert_array_equal(read, images)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_raster(path, IMAGE)
    with pytest.raises(Exception, match="could not be parsed"):
        write_raster(path, IMAGE, Georeference("no such thing", PLACE.transform))
    np.testing.assert_array_equal(read_raster(path)[0], IMAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_damaged_header_is_damage_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(encode_raster(IMAGE))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - IMAGE.nbytes - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.tif"
    path.write_bytes(content)
    with suppress(DamagedFileError):
        read_raster_into(path, np.empty_like(IMAGE))
