"""Files of a store appear whole or not at all, whoever else writes them."""

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from biomassters.chips.store.store_files import FolderFiles, files_at


@pytest.fixture(params=["folder", "bucket"])
def files(request, tmp_path):
    if request.param == "bucket":
        request.getfixturevalue("memory")
        return files_at("memory://bucket/store")
    return files_at(tmp_path / "around" / "store")


def test_what_is_written_is_there(files):
    assert files.listing() == set()
    files.write({"train/a": [b"12", memoryview(b"3")], ".records/train/0.json": [b"{}"]})
    files.write({"train/a": [b"456"]}, wait=False)
    assert files.listing() == {"train/a", ".records/train/0.json"}
    assert files.read("train/a") == b"456"
    with pytest.raises(FileNotFoundError):
        files.read("train/b")
    assert pickle.loads(pickle.dumps(files)) == files


def test_files_taken_over(files):
    files.write({"train/a": [b"1"], "train/b": [b"2"]})
    new = type(files)(*(type(value)(f"{value}-new") for value in vars(files).values()))
    for _ in range(2):  # the second time over the first
        new.take(files, {"train/b": "train/a", "test/x": "train/b"})
    assert {key: new.read(key) for key in new.listing()} == {"train/b": b"1", "test/x": b"2"}
    new.write({"train/b": [b"other"]})
    assert files.read("train/a") == b"1"
    with pytest.raises(FileNotFoundError):
        new.take(files, {"train/b": "train/none"})


def test_what_other_stores_have_left_beside(files):
    (place,) = vars(files).values()
    beside = files_at(type(place)(f"{str(place).removesuffix('store')}other"))
    beside.write({"train/a": [b"1"]})
    files.write({"train/a": [b"2"]})
    assert files.clear_beside()
    assert beside.listing() == set()
    assert files.listing() == {"train/a"}
    assert not files.clear_beside()


def test_only_a_complete_store_is_published(files, tmp_path):
    place = tmp_path / "place" if isinstance(files, FolderFiles) else "memory://bucket/place"
    published = files_at(place)
    published.write({"old": [b"0"]})
    files.write({"a": [b"1"], "manifest.json": [b"{}"], ".records/a/0.json": [b""]})
    with pytest.raises(FileNotFoundError):
        files.publish(place, {"a", "b", "manifest.json"})
    assert "old" in published.listing()
    files.write({"a": [b"1"], "stray": [b""]})
    files.publish(place, {"a", "manifest.json"})
    files.finish(place)
    assert published.listing() == {"a", "manifest.json"}
    assert files.listing() == set()


def test_data_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Also what is taken over from an older store where files can't be linked."""
    synced = []

    def fsync(descriptor, really=os.fsync):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.parent, path.read_bytes()))
        really(descriptor)

    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", no_links)
    old, new = FolderFiles(tmp_path / "old"), FolderFiles(tmp_path / "new")
    old.write({"train/a": [b"12", memoryview(b"3")]})
    new.take(old, {"train/b": "train/a"})
    assert synced == [(tmp_path, b"123")] * 2


@pytest.mark.parametrize("attempt", range(5))
def test_a_folder_that_is_taken_away_while_it_is_written(tmp_path, attempt):
    """As by another run that publishes it: every file is whole, or gone with the folder.

    A file can lose an attempt to each time that the folder goes, and has five.
    """
    files = FolderFiles(tmp_path / "around" / "store")

    def write(number):
        for key in ("a", "b", "c"):
            files.write({f"{number}/{key}": [bytes([number]) * 1000]}, wait=False)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(write, number) for number in range(20)]
        for number in range(4):
            files.write({"x": [b""]}, wait=False)
            files.root.rename(tmp_path / f"taken{number}")
        for future in waiting:
            future.result()
    found = [path for path in tmp_path.rglob("[abc]") if path.is_file()]
    assert len(found) == 60
    assert {path.stat().st_size for path in found} == {1000}
