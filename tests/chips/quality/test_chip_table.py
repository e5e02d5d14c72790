import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.archive.archive import Archive
from biomassters.chips.chip import Chip
from biomassters.chips.quality.chip_report import COLUMNS
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.quality.statistics import BandStatistics
from biomassters.errors import BadInputError
from biomassters.workers.pool import Threads

FEATURES = "train_features"
OPTIONS = InspectionOptions()


def inspected(root: Path, **options: object) -> tuple[pd.DataFrame, BandStatistics]:
    return inspect_archive(Archive.open(root), InspectionOptions(**options), progress=False)


def test_table(archive_root: Path) -> None:
    table, _ = inspected(archive_root)
    assert tuple(table) == COLUMNS
    assert table["chip_id"].tolist() == ["0000000a", "0000000b", "0000000c"]
    assert table["split"].tolist() == ["train", "train", "test"]
    assert table["usable"].all()


def test_statistics_of_usable_training_chips(archive_root: Path, chips: list[Chip]) -> None:
    (archive_root / FEATURES / "0000000b_S1_00.tif").write_bytes(b"")
    table, statistics = inspected(archive_root)
    assert table["usable"].tolist() == [True, False, True]
    expected = BandStatistics()
    expected.update(chips[0])
    np.testing.assert_array_equal(statistics.counts, expected.counts)


def test_the_number_of_threads_does_not_matter(archive_root: Path) -> None:
    archive = Archive.open(archive_root)
    first, first_statistics = inspect_archive(archive, OPTIONS, progress=False, workers=Threads(1))
    table, statistics = inspect_archive(archive, OPTIONS, progress=False, workers=Threads(5))
    pd.testing.assert_frame_equal(table, first)
    np.testing.assert_array_equal(statistics.counts, first_statistics.counts)


@pytest.mark.parametrize(
    "name", ["features_metadata_FzP19JI.csv", "biomassters_features_metadata.csv"]
)
def test_the_name_of_the_metadata_does_not_matter(archive_root: Path, name: str) -> None:
    before, _ = inspected(archive_root)
    (archive_root / "features_metadata.csv").rename(archive_root / name)
    pd.testing.assert_frame_equal(inspected(archive_root)[0], before)


def test_real_chips_under_another_name(sample_root: Path, tmp_path: Path) -> None:
    (tmp_path / "nested").mkdir()
    for folder in ("train_features", "train_agbm"):
        (tmp_path / "nested" / folder).symlink_to(sample_root / folder)
    names = {"features_metadata.csv": "features_metadata_FzP19JI.csv"}
    names["train_agbm_metadata.csv"] = "biomassters_train_agbm_metadata.csv"
    for official, name in names.items():
        shutil.copy(sample_root / official, tmp_path / name)
    table, statistics = inspected(tmp_path)
    expected, expected_statistics = inspected(sample_root)
    assert table["usable"].tolist() == [True, False]
    pd.testing.assert_frame_equal(table, expected)
    np.testing.assert_array_equal(statistics.counts, expected_statistics.counts)


def test_through_parquet(archive_root: Path, tmp_path: Path) -> None:
    (archive_root / FEATURES / "0000000b_S1_00.tif").unlink()
    table, _ = inspected(archive_root)
    table.to_parquet(tmp_path / "table.parquet")
    found = pd.read_parquet(tmp_path / "table.parquet")
    for column in table:
        for value, expected in zip(found[column], table[column], strict=True):
            np.testing.assert_array_equal(value, expected)


def test_stop(archive_root: Path) -> None:
    for name in ("0000000b_S1_00.tif", "0000000a_S2_11.tif"):
        (archive_root / FEATURES / name).write_bytes(b"")
    with pytest.raises(BadInputError) as caught:
        inspected(archive_root, on_damaged="stop")
    path = archive_root / FEATURES / "0000000a_S2_11.tif"
    assert str(caught.value) == (
        f"{path} is empty, and 1 other file is damaged: fetch what is damaged again, or set "
        "on_damaged to leave_out_chip or leave_out_image."
    )


def test_stop_without_damage(archive_root: Path) -> None:
    assert inspected(archive_root, on_damaged="stop")[0]["usable"].all()


@pytest.mark.parametrize("on_incomplete", ["leave_out_chip", "use", "stop"])
def test_incomplete_chips_are_counted_and_named(
    archive_root: Path, on_incomplete: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("0000000b_S1_00.tif", "0000000b_S2_11.tif"):
        (archive_root / FEATURES / name).unlink()
    sentence = (
        f"{archive_root} is incomplete: 1 of 3 chips lack images that its metadata list (0000000b: "
        "It is incomplete: 2 of the 15 images that the metadata list are not there (the first is "
        "0000000b_S1_00.tif))"
    )
    if on_incomplete == "stop":
        with pytest.raises(BadInputError) as caught:
            inspected(archive_root, on_incomplete=on_incomplete)
        assert str(caught.value).startswith(sentence)
        return
    table, _ = inspected(archive_root, on_incomplete=on_incomplete)
    assert table["usable"].tolist() == [True, on_incomplete == "use", True]
    assert [record.getMessage().startswith(sentence) for record in caplog.records] == [True]


def test_a_complete_archive_says_nothing(
    archive_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert inspected(archive_root)[0]["usable"].all()
    assert caplog.records == []


def test_no_usable_chip(archive_root: Path) -> None:
    shutil.rmtree(archive_root / "test_features")
    shutil.rmtree(archive_root / "train_agbm")
    with pytest.raises(BadInputError, match=r"has no usable chip among its 3 \(0000000a: It is a"):
        inspected(archive_root)


def test_only_test_chips(archive_root: Path) -> None:
    shutil.rmtree(archive_root / "train_agbm")
    table, statistics = inspected(archive_root)
    assert table["usable"].tolist() == [False, False, True]
    assert not statistics.counts.any()


def test_progress(
    archive_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    inspect_archive(Archive.open(archive_root), OPTIONS)
    output = capsys.readouterr()
    assert "inspecting chips:   0%" in output.err
    assert output.out == ""
