"""Files out of tars: whole, split, compressed, resumed, hostile."""

import io
import tarfile

import pytest

from biomassters.acquisition.acquire import acquire
from biomassters.errors import BadInputError


def counts(table):
    return table["status"].value_counts().to_dict()


def bring(root, options, parts):
    made = options(tar_parts=[str(part) for part in parts])
    return acquire(root, made)


def pack(path, published, pattern="**/*.tif", mode="w"):
    with tarfile.open(path, mode) as tar:
        for file in sorted(published.glob(pattern)):
            tar.add(file, f"re-hosted/{file.relative_to(published)}")
    return path


def split(path, size):
    data = path.read_bytes()
    parts = []
    for number, start in enumerate(range(0, len(data), size)):
        part = path.with_name(f"{path.name}.{number:03d}")
        part.write_bytes(data[start : start + size])
        parts.append(part)
    path.unlink()
    return parts


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_pieces_of_one_tar(tmp_path, published, target, options, files_of, mode):
    parts = split(pack(tmp_path / "all.tar", published, mode=mode), 50_001)
    assert len(parts) > 2
    assert counts(bring(target, options, parts)) == {"fetched": 88}
    assert files_of(target) == files_of(published)


def test_a_pattern_and_several_tars(tmp_path, published, target, options, files_of):
    pack(tmp_path / "a.tar", published, "train_features/*.tif")
    pack(tmp_path / "b.tar", published, "t*_agbm/*.tif")
    pack(tmp_path / "c.tar", published, "test_features/*.tif")
    assert counts(bring(target, options, [tmp_path / "*.tar"])) == {"fetched": 88}
    assert files_of(target) == files_of(published)


def test_over_the_web(tmp_path, serve, published, target, options, files_of):
    folder = tmp_path / "web"
    folder.mkdir()
    parts = split(pack(folder / "all.tar", published), 50_001)
    url = serve(folder)
    assert counts(bring(target, options, [f"{url}/{part.name}" for part in parts])) == {
        "fetched": 88
    }
    assert files_of(target) == files_of(published)


def test_it_goes_on_and_finds_what_lies_before(tmp_path, published, target, options, files_of):
    parts = split(pack(tmp_path / "all.tar", published), 50_001)
    bring(target, options, parts)
    (target / "test_features" / "00000004_S1_00.tif").unlink()
    (target / "train_features" / "00000003_S1_11.tif").unlink()
    assert counts(bring(target, options, parts)) == {"complete": 86, "fetched": 2}
    assert files_of(target) == files_of(published)


def test_a_wrong_copy_and_a_missing_one(tmp_path, published, target, options):
    pack(tmp_path / "all.tar", published, "*/*_S*.tif")
    data = bytearray((tmp_path / "all.tar").read_bytes())
    data[2000] ^= 1
    (tmp_path / "all.tar").write_bytes(data)
    table = bring(target, options, [tmp_path / "all.tar"])
    assert counts(table) == {"fetched": 83, "missing": 4, "failed": 1}
    assert table.loc[table["status"] == "missing", "reason"].iloc[0].startswith("is in none")


def hostile(path, name, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = "/etc/passwd"
    with tarfile.open(path, "w") as tar:
        tar.addfile(member, io.BytesIO())
    return path


@pytest.mark.parametrize("name", ["../out.tif", "/abs.tif", "a/../../out.tif"])
def test_a_member_that_climbs(tmp_path, target, options, name):
    with pytest.raises(BadInputError, match="leads out of the archive's folder"):
        bring(target, options, [hostile(tmp_path / "x.tar", name)])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link(tmp_path, target, options, kind):
    tar = hostile(tmp_path / "x.tar", "00000000_S1_00.tif", kind)
    with pytest.raises(BadInputError, match="a link, which may lead out"):
        bring(target, options, [tar])


def test_no_such_part(tmp_path, target, options):
    with pytest.raises(BadInputError, match=r"acquisition.tar_parts: there is no"):
        bring(target, options, [tmp_path / "none.tar"])


def test_a_full_disk(tmp_path, published, target, options, files_of):
    tar = pack(tmp_path / "all.tar", published)
    folder = target / "train_agbm"
    folder.mkdir()
    (folder / ".00000002_agbm.tif.partial").symlink_to("/dev/full")
    with pytest.raises(BadInputError, match=r"disk is full .* free some space and run again"):
        bring(target, options, [tar])
    bring(target, options, [tar])
    assert files_of(target) == files_of(published)
