from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.chip import Chip
from biomassters.errors import BadInputError
from biomassters.io.checksum import file_cksum


def test_metadata(archive_root: Path) -> None:
    features = pd.read_csv(archive_root / "features_metadata.csv", keep_default_na=False)
    assert len(features) == 3 * (12 + 3)
    row = features.set_index("filename").loc["0000000a_S2_06.tif"]
    assert row.to_dict() == {
        "chip_id": "0000000a",
        "satellite": "S2",
        "split": "train",
        "month": "March",
        "size": (archive_root / "train_features" / "0000000a_S2_06.tif").stat().st_size,
        "cksum": file_cksum(archive_root / "train_features" / "0000000a_S2_06.tif"),
        "s3path_us": "",
        "s3path_eu": "",
        "s3path_as": "",
        "corresponding_agbm": "0000000a_agbm.tif",
    }
    labels = pd.read_csv(archive_root / "train_agbm_metadata.csv")
    assert labels["filename"].tolist() == ["0000000a_agbm.tif", "0000000b_agbm.tif"]
    assert labels["cksum"][1] == file_cksum(archive_root / "train_agbm" / "0000000b_agbm.tif")


def test_like_the_real_archive(sample_root: Path, tmp_path: Path) -> None:
    chip = Archive.open(sample_root).read_chip("000aa810")
    write_archive(tmp_path / "copy", [chip], progress=False)
    listed, copied = (
        pd.read_csv(root / "features_metadata.csv", dtype=str, keep_default_na=False)
        for root in (sample_root, tmp_path / "copy")
    )
    assert list(copied) == list(listed)
    same = [name for name in listed if not name.startswith("s3path")]
    expected = listed[listed["chip_id"] == "000aa810"].sort_values("filename", ignore_index=True)
    pd.testing.assert_frame_equal(copied[same], expected[same])
    labels = pd.read_csv(tmp_path / "copy" / "train_agbm_metadata.csv")
    listed = pd.read_csv(sample_root / "train_agbm_metadata.csv").set_index("filename")
    assert list(labels) == ["filename", *listed]
    assert labels["cksum"][0] == listed.loc["000aa810_agbm.tif", "cksum"]


def test_an_earlier_one_is_replaced(archive_root: Path, make_chip: Callable[..., Chip]) -> None:
    write_archive(archive_root, [make_chip("0d", "test")], progress=False)
    assert Archive.open(archive_root).chip_ids() == ["0d"]
    assert not (archive_root / "train_agbm").exists()
    assert [path.name for path in archive_root.parent.iterdir()] == ["archive"]


def test_a_failure_leaves_the_earlier_one(archive_root: Path, chips: list[Chip]) -> None:
    def failing():
        yield chips[0]
        raise RuntimeError("out of trees")

    with pytest.raises(RuntimeError, match="out of trees"):
        write_archive(archive_root, failing(), progress=False)
    assert len(Archive.open(archive_root).chip_ids()) == 3
    write_archive(archive_root, chips[:1], progress=False)
    assert Archive.open(archive_root).chip_ids() == ["0000000a"]


def test_foreign_folders_stay(tmp_path: Path, chips: list[Chip]) -> None:
    precious = tmp_path / "real" / "train_agbm" / "0a_agbm.tif"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(BadInputError, match="real holds files that were not generated here"):
        write_archive(tmp_path / "real", chips, progress=False)
    assert precious.read_text() == "precious"


def test_an_empty_folder_is_taken(tmp_path: Path, chips: list[Chip]) -> None:
    (tmp_path / ".gitkeep").touch()
    (tmp_path / "train_features").mkdir()
    write_archive(tmp_path, chips, progress=False)
    assert len(Archive.open(tmp_path).chip_ids()) == 3


def test_a_training_chip_without_label(tmp_path: Path, make_chip: Callable[..., Chip]) -> None:
    chips = [make_chip("0a", agb_mg_per_ha=None), make_chip("0b")]
    write_archive(tmp_path / "x", chips, progress=False)
    archive = Archive.open(tmp_path / "x")
    assert archive.missing_files("0a") == ["0a_agbm.tif"]
    assert archive.read_chip("0a").agb_mg_per_ha is None


def test_any_size(tmp_path: Path) -> None:
    s1_db = np.full((12, 4, 64, 96), -9.5, np.float32)
    s2 = np.full((12, 11, 64, 96), 7, np.uint16)
    chip = Chip("0a", "test", {"s1": s1_db, "s2": s2}, np.ones((12, 2), bool))
    write_archive(tmp_path / "x", [chip], progress=False)
    found = Archive.open(tmp_path / "x").read_chip("0a")
    assert found.shape == (64, 96)
    np.testing.assert_array_equal(found.images["s1"], s1_db)


def test_a_disk_that_fills_up(archive_root: Path, tmp_path: Path) -> None:
    """The system says so of /dev/full; the space that was written to is given back."""
    chip = Archive.open(archive_root).read_chip("0000000a")
    partial = tmp_path / ".full.partial"

    def chips() -> Iterator[Chip]:
        (partial / "train_features").mkdir()
        (partial / "train_features" / "0000000a_S2_06.tif").symlink_to("/dev/full")
        yield chip

    with pytest.raises(
        BadInputError,
        match=rf"^The disk is full while writing the archive {tmp_path}/full, .*: free",
    ):
        write_archive(tmp_path / "full", chips(), progress=False)
    assert not partial.exists()
    write_archive(tmp_path / "full", [chip], progress=False)
    assert Archive.open(tmp_path / "full").read_chip("0000000a").chip_id == "0000000a"
