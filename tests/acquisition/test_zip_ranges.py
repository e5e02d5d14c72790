"""Single files out of real zips, split ones too, over loopback HTTP: what comes, and how much."""

import shutil
import struct
import subprocess
import zipfile
from itertools import pairwise

import numpy as np
import pytest

from biomassters.acquisition.acquire import acquire, require_complete
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import WantedFile
from biomassters.acquisition.zip_ranges import open_zips
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.chip import Chip
from biomassters.errors import BadInputError

SIDE, CHIPS = 32, 130


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """130 chips, 30 MB of numbers that hardly compress."""
    root = tmp_path_factory.mktemp("large") / "archive"
    random = np.random.default_rng(0)

    def chips():
        present = np.zeros((MONTH_COUNT, 2), bool)
        present[:, 0] = present[5:7, 1] = True
        for number in range(CHIPS):
            s1_db = random.normal(-12, 3, (MONTH_COUNT, 4, SIDE, SIDE)).astype(np.float32)
            s2 = random.integers(1, 5000, (MONTH_COUNT, 11, SIDE, SIDE)).astype(np.uint16)
            yield Chip(f"{number:08x}", "test", {"s1": s1_db, "s2": s2}, present)

    write_archive(root, chips(), progress=False)
    return root


def zip_split(large, folder, *arguments):
    """``zip -s`` as the archive was split; the addresses of its parts' names."""
    if shutil.which("zip") is None:
        pytest.skip("Info-ZIP's zip is not installed")
    folder.mkdir()
    command = ["zip", "-q", "-r", "-s", "3m", *arguments, folder / "all.zip", "test_features"]
    subprocess.run(command, cwd=large, check=True)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def served(large, tmp_path_factory, range_server):
    """An archive that ``zip -s`` split, on a web server that answers ranges."""
    folder = tmp_path_factory.mktemp("served") / "zips"
    parts = zip_split(large, folder)
    assert len(parts) > 5
    return folder, range_server(folder)


def metadata_of(large, tmp_path):
    target = tmp_path / "archive"
    target.mkdir()
    shutil.copy(large / "features_metadata.csv", target)
    return target


def test_two_chips_out_of_a_split_zip_for_less_than_3_percent(large, served, tmp_path):
    """The proof of what is served is the server's own count of bytes."""
    folder, server = served
    before = server.sent_bytes
    options = AcquisitionOptions.model_validate({
        "zips": f"http://{server.host}/all.zip",
        "subset": {"chips": ["00000007", "00000050"], "sensors": ["s1", "s2"]},
    })  # fmt: skip
    target = metadata_of(large, tmp_path)
    table = acquire(target, options)
    require_complete(table)
    assert len(table) == 28
    for path in (target / "test_features").iterdir():
        assert path.read_bytes() == (large / "test_features" / path.name).read_bytes()
    whole = sum(part.stat().st_size for part in folder.iterdir())
    sent = server.sent_bytes - before
    assert sent < 0.03 * whole, f"{sent:,} of {whole:,} bytes"


def wanted(name):
    return WantedFile(name, "", "", 0, None, "", None)


def from_zip(place):
    source = open_zips(AcquisitionOptions(zips=(str(place),)))
    return lambda name: source(wanted(name))


@pytest.mark.parametrize("arguments", [("-0",), ("-6",), ("-fz",), ("-0", "-fz")])
def test_stored_deflated_and_zip64(large, tmp_path, arguments):
    zip_split(large, tmp_path / "zips", *arguments)
    read = from_zip(tmp_path / "zips" / "all.zip")
    for path in list((large / "test_features").iterdir())[::40]:
        assert read(path.name) == path.read_bytes()


def split_by_hand(folder, files, part_bytes, zip64=True):
    """A zip of stored files cut into parts, with the records of zip64: places count by part."""
    whole = folder / "whole"
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"deep/{name}", content)
    data = bytearray(b"PK\7\x08" + whole.read_bytes())
    whole.unlink()
    with zipfile.ZipFile(folder / "again.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"deep/{name}", content)
        begins = [info.header_offset + 4 for info in archive.infolist()]
    (folder / "again.zip").unlink()
    end = data.rfind(b"PK\5\6")
    directory = struct.unpack_from("<L", data, end + 16)[0] + 4
    # A header is never cut: a part ends before one that it has no room for.
    cuts = [0]
    while cuts[-1] + part_bytes < end:
        cut = cuts[-1] + part_bytes
        cuts.append(next((begin for begin in begins if begin < cut < begin + 60), cut))
    parts = len(cuts)

    def place(at):
        number = max(n for n, cut in enumerate(cuts) if cut <= at)
        return number, at - cuts[number]

    at = directory
    for begin in begins:
        number, offset = place(begin)
        struct.pack_into("<H", data, at + 34, number)
        struct.pack_into("<L", data, at + 42, offset)
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    count, (part, offset) = len(files), place(directory)
    record_part, record_offset = place(end)
    tail = b""
    if zip64:
        tail += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, parts - 1, part, count, count,
                            end - directory, offset)  # fmt: skip
        tail += struct.pack("<4sLQL", b"PK\6\7", record_part, record_offset, parts)
        tail += struct.pack("<4s4H2LH", b"PK\5\6", *[0xFFFF] * 4, *[0xFFFFFFFF] * 2, 0)
    else:
        tail += struct.pack("<4s4H2LH", b"PK\5\6", parts - 1, part, count, count,
                            end - directory, offset, 0)  # fmt: skip
    data[end:] = tail
    for number, (begin, stop) in enumerate(pairwise([*cuts, len(data)]), 1):
        name = "all.zip" if number == parts else f"all.z{number:02d}"
        (folder / name).write_bytes(data[begin:stop])
    return parts


@pytest.fixture
def files():
    random = np.random.default_rng(1)
    sizes = random.integers(500, 9000, 40)
    return {f"{n:02d}.tif": random.bytes(int(size)) for n, size in enumerate(sizes)}


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("part_bytes", [4_000, 20_011])
def test_a_file_that_goes_on_in_the_next_parts(tmp_path, files, part_bytes, zip64):
    assert split_by_hand(tmp_path, files, part_bytes, zip64) > 5
    read = from_zip(tmp_path / "all.zip")
    for name, content in files.items():
        assert read(name) == content
    with pytest.raises(FileNotFoundError, match="is in none of the zips"):
        read("none.tif")


def test_a_missing_part_is_named(tmp_path, files):
    split_by_hand(tmp_path, files, 20_011)
    (tmp_path / "all.z03").unlink()
    with pytest.raises(BadInputError, match=r"there is no .*all\.z03, which .*all\.zip needs"):
        from_zip(tmp_path / "all.zip")


@pytest.mark.parametrize("part", ["all.z01", "all.z04"])
@pytest.mark.parametrize("lost", [200, 15_000])
def test_a_part_that_ends_too_early_is_named(tmp_path, files, part, lost):
    split_by_hand(tmp_path, files, 20_011)
    content = (tmp_path / part).read_bytes()
    (tmp_path / part).write_bytes(content[:-lost])
    with pytest.raises(BadInputError, match=rf"{part} ends too early: .* fetch or name it again"):
        from_zip(tmp_path / "all.zip")


@pytest.mark.parametrize("lost", [1, 30, 400])
def test_the_last_part_cut_off(tmp_path, files, lost):
    split_by_hand(tmp_path, files, 20_011)
    content = (tmp_path / "all.zip").read_bytes()
    (tmp_path / "all.zip").write_bytes(content[:-lost])
    with pytest.raises(BadInputError, match=r"all\.zip .* no zip or not whole"):
        from_zip(tmp_path / "all.zip")


def test_a_flipped_bit_is_seen_by_the_crc(tmp_path, files):
    split_by_hand(tmp_path, files, 20_011)
    content = bytearray((tmp_path / "all.z02").read_bytes())
    content[10_000] ^= 1
    (tmp_path / "all.z02").write_bytes(content)
    read, bad = from_zip(tmp_path / "all.zip"), []
    for name, whole in files.items():
        try:
            assert read(name) == whole
        except OSError as error:
            bad.append(str(error))
    assert bad == ["its CRC-32 is not the zip's"]


def test_something_else_is_no_zip(tmp_path):
    (tmp_path / "all.zip").write_bytes(b"hello" * 1000)
    with pytest.raises(BadInputError, match="has no directory at its end"):
        from_zip(tmp_path / "all.zip")


def test_tars_and_zips_are_not_mixed():
    with pytest.raises(BadInputError, match="tar_parts and zips are both given"):
        AcquisitionOptions.model_validate({"tar_parts": "a.tar", "zips": "a.zip"})
