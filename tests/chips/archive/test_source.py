from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.archive.archive import Archive, DamagedFileError
from biomassters.chips.archive.source import UsableChips
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive


@pytest.fixture
def damaged_root(archive_root: Path) -> Path:
    """The archive with a truncated image of chip a and no label of chip b."""
    path = archive_root / "train_features" / "0000000a_S2_06.tif"
    path.write_bytes(path.read_bytes()[:-1])
    (archive_root / "train_agbm" / "0000000b_agbm.tif").unlink()
    return archive_root


def source_of(root: Path, on_damaged: str, scratch: Path) -> UsableChips:
    archive = Archive.open(root)
    table, _ = inspect_archive(archive, InspectionOptions(on_damaged=on_damaged), progress=False)
    table.to_parquet(scratch / "table.parquet")
    return UsableChips(archive, pd.read_parquet(scratch / "table.parquet"))


def test_splits(archive_root: Path, tmp_path: Path) -> None:
    source = source_of(archive_root, "leave_out_chip", tmp_path)
    assert source.splits() == {"test": ["0000000c"], "train": ["0000000a", "0000000b"]}


def test_damaged_chips_are_left_out(damaged_root: Path, tmp_path: Path) -> None:
    source = source_of(damaged_root, "leave_out_chip", tmp_path)
    assert source.splits() == {"test": ["0000000c"]}


def test_damaged_images_are_left_out(damaged_root: Path, tmp_path: Path) -> None:
    source = source_of(damaged_root, "leave_out_image", tmp_path)
    assert source.splits() == {"test": ["0000000c"], "train": ["0000000a"]}
    chip = source.read_chip("0000000a")
    assert np.flatnonzero(chip.present[:, 1]).tolist() == [0, 11]


def test_damage_after_the_inspection(archive_root: Path, tmp_path: Path) -> None:
    source = source_of(archive_root, "leave_out_image", tmp_path)
    before = source.signature("0000000a")
    (archive_root / "train_features" / "0000000a_S2_06.tif").write_bytes(b"")
    assert source.signature("0000000a") != before
    with pytest.raises(DamagedFileError, match=r"0000000a_S2_06.tif is empty"):
        source.read_chip("0000000a")
