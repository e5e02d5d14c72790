import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from biomassters.errors import BadInputError
from biomassters.io.raster import write_raster
from biomassters.submission.build import archive_writer, write_submission
from biomassters.submission.check import SUFFIXES, read_archive

SIZE = (32, 32)
IDS = ("c3", "c1", "c2")


def maps_of(*ids: str) -> dict[str, np.ndarray]:
    return {
        chip: np.random.default_rng(index).gamma(1, 60, SIZE).astype(np.float32)
        for index, chip in enumerate(sorted(ids))
    }


def submit(place: Path, maps, ids=IDS, size=SIZE):
    return write_submission(place, maps, ids, size, progress=False)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_each_chip_once_in_order(tmp_path, suffix):
    maps = maps_of(*IDS)
    place = tmp_path / "deep" / f"submission{suffix}"
    agb = submit(place, maps)
    members = {one.name: one.read() for one in read_archive(place, suffix, 2**20)}
    assert list(members) == ["c1_agbm.tif", "c2_agbm.tif", "c3_agbm.tif"]
    assert agb.maps == 3
    assert agb.maximum == pytest.approx(max(m.max() for m in maps.values()))
    assert agb.mean == pytest.approx(np.mean(list(maps.values())), rel=1e-6)
    assert [p.name for p in place.parent.iterdir()] == [place.name]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_another_reader_finds_one_band_of_float32(tmp_path):
    maps = maps_of(*IDS)
    place = tmp_path / "submission.tar.gz"
    submit(place, maps)
    with tarfile.open(place) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    for chip, expected in maps.items():
        with rasterio.open(tmp_path / "out" / f"{chip}_agbm.tif") as source:
            assert source.count == 1
            assert source.dtypes == ("float32",)
            np.testing.assert_array_equal(source.read(1), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_maps_give_the_same_bytes_at_another_time(tmp_path, suffix):
    maps = maps_of(*IDS)
    first, second = (tmp_path / f"{name}{suffix}" for name in ("first", "second"))
    submit(first, maps)
    os.utime(first, (0, 0))
    submit(second, dict(reversed(maps.items())), tuple(sorted(IDS)))
    assert first.read_bytes() == second.read_bytes()


def test_maps_may_be_functions_called_one_at_a_time(tmp_path):
    maps = maps_of(*IDS)
    asked = []

    def later(chip):
        return lambda: asked.append(chip) or maps[chip]

    agb = submit(tmp_path / "s.tar", {chip: later(chip) for chip in IDS})
    assert asked == ["c1", "c2", "c3"]
    assert agb.minimum >= 0


def test_folder_of_geotiffs_gives_the_same_archive(tmp_path):
    maps = maps_of(*IDS)
    for chip, agb in maps.items():
        write_raster(tmp_path / f"{chip}_agbm.tif", agb)
    submit(tmp_path / "a.tgz", tmp_path)
    submit(tmp_path / "b.tgz", maps)
    assert (tmp_path / "a.tgz").read_bytes() == (tmp_path / "b.tgz").read_bytes()


def tampered(change):
    maps = maps_of(*IDS)
    change(maps)
    return maps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("c2"), "Chip c2 is missing: 1 of 3 test chips"),
        (lambda m: m.update(x9=m["c1"]), "Chip x9 is not a test chip: 1 of 4"),
        (lambda m: m["c2"].__setitem__((0, slice(3)), np.nan), r"Chip c2 has 3 pixels .* \(1 of 3"),
        (lambda m: m["c1"].__setitem__((0, 0), -np.inf), "Chip c1 has 1 pixels"),
        (lambda m: m.update(c1=m["c1"][:, :-1]), r"Chip c1 has shape \(32, 31\), not \(32, 32\)"),
        (lambda m: m.update(c3=m["c3"].astype(float)), "Chip c3 has values of type float64"),
    ],
)
def test_what_does_not_belong_is_named_and_the_earlier_submission_stays(tmp_path, change, message):
    place = tmp_path / "submission.tar.gz"
    place.write_bytes(b"earlier")
    with pytest.raises(BadInputError, match=message):
        submit(place, tampered(change))
    assert place.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == [place.name]


def test_all_faulty_maps_are_counted(tmp_path):
    maps = tampered(lambda m: [m[chip].fill(np.nan) for chip in ("c1", "c3")])
    with pytest.raises(BadInputError, match=r"Chip c1 .*\(2 of 3 maps"):
        submit(tmp_path / "s.zip", maps)


def test_truncated_and_repeated_files_of_a_folder_are_named(tmp_path):
    for chip, agb in maps_of(*IDS).items():
        write_raster(tmp_path / f"{chip}_agbm.tif", agb)
    broken = tmp_path / "c2_agbm.tif"
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(BadInputError, match=r"Chip c2: .*c2_agbm\.tif.*truncated"):
        submit(tmp_path / "s.tar", tmp_path)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "c1_agbm.tif").write_bytes(b"")
    with pytest.raises(BadInputError, match="holds chip c1 twice"):
        submit(tmp_path / "s.tar", tmp_path)


def test_bad_lists_and_names_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="Chip c1 is listed more than once"):
        submit(tmp_path / "s.tar", maps_of("c1"), ("c1", "c1"))
    with pytest.raises(BadInputError, match="No test chips"):
        submit(tmp_path / "s.tar", {}, ())
    with pytest.raises(BadInputError, match=r"s\.rar: a submission must end in \.tar\.gz"):
        submit(tmp_path / "s.rar", maps_of(*IDS))


def test_members_carry_no_time_or_owner(tmp_path):
    with archive_writer(tmp_path / "a.tar.gz", ".tar.gz") as add:
        add("x.tif", b"123")
    raw = (tmp_path / "a.tar.gz").read_bytes()
    assert raw[4:8] == bytes(4)  # MTIME of RFC 1952
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        (member,) = tar.getmembers()
    assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)
    with archive_writer(tmp_path / "a.zip", ".zip") as add:
        add("x.tif", b"123")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
