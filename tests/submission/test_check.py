import re

import numpy as np
import pytest
import rasterio

from biomassters.errors import BadInputError
from biomassters.io.raster import encode_raster
from biomassters.submission.build import archive_writer
from biomassters.submission.check import SUFFIXES, archive_suffix, check_submission

SIZE = (16, 24)
IDS = ("a", "b", "c", "d")


def maps():
    generator = np.random.default_rng(0)
    return {chip: generator.gamma(1, 60, SIZE).astype(np.float32) for chip in IDS}


def submit(place, images, extra=()):
    with archive_writer(place, archive_suffix(place)) as add:
        for chip, image in images.items():
            add(f"{chip}_agbm.tif", encode_raster(image))
        for name, content in extra:
            add(name, content)
    return check_submission(place, IDS, SIZE, progress=False)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_good_submission_has_no_faults(tmp_path, suffix):
    images = maps()
    check = submit(tmp_path / f"s{suffix}", images)
    assert not check.faults
    assert not check.remarks
    summary = check.summary()
    assert summary["maps"] == 4
    assert summary["mean_agb_mg_per_ha"] == pytest.approx(np.mean(list(images.values())), rel=1e-6)
    check.require_valid(tmp_path)


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    images = maps()
    del images["a"]
    images["b"][0, :2] = np.nan
    images["c"] = images["c"][:, :-1]
    images["d"] = images["d"].astype(np.float64)
    check = submit(tmp_path / "s.tar", images, [("readme.txt", b"hello")])
    assert check.faults == [
        ("b_agbm.tif", "has 2 pixels that are NaN or infinite"),
        ("c_agbm.tif", "has shape (16, 23), not (16, 24)"),
        ("d_agbm.tif", "has values of type float64, not float32"),
        ("readme.txt", "belongs to no test chip"),
        ("a_agbm.tif", "is missing"),
    ]
    with pytest.raises(BadInputError, match=r"b_agbm.tif has 2 pixels .* a_agbm.tif is missing"):
        check.require_valid(tmp_path / "s.tar")


def test_repeated_and_unreadable_members_and_three_bands(tmp_path):
    images = maps()
    again = encode_raster(images["a"])
    images["d"] = np.stack([images["d"]] * 3)
    del images["b"]
    extra = [("a_agbm.tif", again), ("b_agbm.tif", b"II*\0 no more")]
    faults = dict(submit(tmp_path / "s.tar", images, extra).faults)
    assert faults["a_agbm.tif"] == "is there twice"
    assert "no readable TIFF" in faults["b_agbm.tif"]
    assert faults["d_agbm.tif"] == "has 3 bands, not 1"


def test_negative_and_constant_maps_are_valid_but_remarked(tmp_path):
    images = maps()
    images["a"][3, 3] = -1
    images["b"][:] = 7
    check = submit(tmp_path / "s.tar", images)
    assert not check.faults
    assert check.remarks == [
        ("a_agbm.tif", "has 1 negative pixels"),
        ("b_agbm.tif", "is 7 Mg/ha everywhere"),
    ]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar", ".zip"])
def test_a_truncated_archive_is_a_fault(tmp_path, suffix):
    place = tmp_path / f"s{suffix}"
    submit(place, maps())
    place.write_bytes(place.read_bytes()[:3400])
    faults = check_submission(place, IDS, SIZE, progress=False).faults
    assert any("can't be read" in fault for _, fault in faults)
    assert ("d_agbm.tif", "is missing") in faults


def compressed(image):
    with rasterio.io.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, height=SIZE[0], width=SIZE[1], dtype="float32",
            compress="deflate",
        ) as file:  # fmt: skip
            file.write(image, 1)
        return memory.read()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_unreadable_map_is_called_by_its_members_name(tmp_path, suffix):
    """GDAL reads it in memory, under a name that is nobody's."""
    image = maps()["a"]
    whole = compressed(image)
    damaged = {
        "a": b"", "b": b"hello", "c": whole[: len(whole) // 2],
        "d": b"II*\0" + (2**31 - 1).to_bytes(4, "little"),
    }  # fmt: skip
    extra = [(f"{chip}_agbm.tif", content) for chip, content in damaged.items()]
    check = submit(tmp_path / f"s{suffix}", {}, extra)
    for name, fault in check.faults:
        assert fault.startswith("is no readable TIFF: it ")
        assert name in fault or fault.endswith("it is empty")
        assert not re.search(r"vsimem|[0-9a-f]{8}-|previous exception", fault)
    assert len(check.faults) == 4
