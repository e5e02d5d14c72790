from pathlib import Path

import pytest

from biomassters.chips.archive.layout import ArchiveFiles
from biomassters.errors import BadInputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "c" / "one.tif")
    touch(tmp_path / "two.tiff")
    touch(tmp_path / "b" / "list.csv")
    touch(tmp_path / ".partial" / "three.tif")
    touch(tmp_path / "b" / ".one.tif.partial")
    touch(tmp_path / "readme.txt")
    files = ArchiveFiles.find(tmp_path)
    assert files.csv_paths == (str(tmp_path / "b" / "list.csv"),)
    assert files.tif_paths == {
        "one.tif": str(tmp_path / "b" / "c" / "one.tif"),
        "two.tiff": str(tmp_path / "two.tiff"),
    }


def test_of_two_files_the_nearest_counts(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "copy" / "one.tif")
    near = touch(tmp_path / "z" / "one.tif")
    touch(tmp_path / "zz" / "one.tif")
    assert ArchiveFiles.find(tmp_path).tif_paths == {"one.tif": str(near)}


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "disk" / "one.tif")
    root = tmp_path / "archive"
    root.mkdir()
    (root / "train_features").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(root)
    files = ArchiveFiles.find(root)
    assert files.tif_paths == {"one.tif": str(root / "train_features" / "one.tif")}


def test_no_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", touch(tmp_path / "file")):
        with pytest.raises(BadInputError, match=f"{path} is not a folder: set raw_root"):
            ArchiveFiles.find(path)
