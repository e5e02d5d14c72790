import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import MONTH_NAMES
from biomassters.chips.chip import Chip
from biomassters.chips.quality.chip_table import (
    InspectionOptions,
    inspect_archive,
    inspect_chip,
    summarise_data,
)
from biomassters.chips.quality.statistics import BandStatistics
from biomassters.errors import BadInputError
from biomassters.io.raster import write_raster
from biomassters.workers.pool import Threads

FEATURES = "train_features"
COLUMNS = (
    *("chip_id", "split", "height", "width", "crs", "transform"),
    *("s1_months", "s2_months"),
    *("s1_nodata_fraction", "s2_zero_fraction", "s2_cloud_fraction"),
    *("agb_mean_mg_per_ha", "agb_sd_mg_per_ha", "agb_min_mg_per_ha", "agb_max_mg_per_ha"),
    *("missing_files", "damaged_files", "problem", "usable"),
)
OPTIONS = InspectionOptions()


def inspected(root: Path, **options: object) -> tuple[pd.DataFrame, BandStatistics]:
    return inspect_archive(Archive.open(root), InspectionOptions(**options))


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
    first, first_statistics = inspect_archive(archive, OPTIONS, workers=Threads(1))
    table, statistics = inspect_archive(archive, OPTIONS, workers=Threads(5))
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


def test_row(archive_root: Path) -> None:
    s1 = np.full((4, 32, 32), -10, np.float32)
    s1[2:, :8] = -9999  # 1/8 of all values
    write_raster(archive_root / FEATURES / "0000000a_S1_03.tif", s1)
    s2 = np.ones((11, 32, 32), np.uint16)
    s2[:-1, :, :16] = 0  # left half never seen
    s2[-1] = 50
    s2[-1, :8] = 51  # a quarter cloudy
    s2[-1, 8:16] = 255  # a quarter unknown
    write_raster(archive_root / FEATURES / "0000000a_S2_06.tif", s2)
    label = np.zeros((32, 32), np.float32)
    label[:16] = 100
    write_raster(archive_root / "train_agbm" / "0000000a_agbm.tif", label)

    report = inspect_chip("0000000a", Archive.open(archive_root), InspectionOptions())
    row = report.row
    assert tuple(row) == COLUMNS
    assert (row["chip_id"], row["split"], row["height"], row["width"]) == (
        "0000000a",
        "train",
        32,
        32,
    )
    assert row["s1_months"] == list(range(12))
    assert row["s2_months"] == [0, 6, 11]
    assert row["s1_nodata_fraction"] == [0, 0, 0, 1 / 8, *[0] * 8]
    assert row["s2_zero_fraction"][6] == 0.5
    assert row["s2_cloud_fraction"][6] == 0.25
    assert np.isnan(row["s2_cloud_fraction"][1])
    assert row["agb_mean_mg_per_ha"] == row["agb_sd_mg_per_ha"] == 50
    assert (row["agb_min_mg_per_ha"], row["agb_max_mg_per_ha"]) == (0, 100)
    assert row["missing_files"] == row["damaged_files"] == []
    assert row["problem"] == ""
    assert row["usable"] is True


def test_a_test_chip_needs_no_label(archive_root: Path) -> None:
    row = inspect_chip("0000000c", Archive.open(archive_root), InspectionOptions()).row
    assert row["usable"] is True
    assert np.isnan(row["agb_mean_mg_per_ha"])


def test_a_training_chip_does(archive_root: Path) -> None:
    (archive_root / "train_agbm" / "0000000a_agbm.tif").unlink()
    row = inspect_chip("0000000a", Archive.open(archive_root), InspectionOptions()).row
    assert row["usable"] is False
    assert row["problem"] == "It is a training chip without a label."
    assert row["missing_files"] == ["0000000a_agbm.tif"]


def _forget(root: Path, chip_id: str) -> None:
    """Take what a chip lacks off the list: those months never existed."""
    path = root / "features_metadata.csv"
    listed = pd.read_csv(path, dtype=str)
    here = listed["filename"].map(lambda name: (root / FEATURES / name).exists())
    listed[here | (listed["chip_id"] != chip_id)].to_csv(path, index=False)


@pytest.mark.parametrize(("minimum", "usable"), [(1, True), (2, False)])
def test_minimum_months(archive_root: Path, minimum: int, usable: bool) -> None:
    for path in archive_root.glob(f"{FEATURES}/0000000a_*.tif"):
        if not path.stem.endswith("_06"):
            path.unlink()
    _forget(archive_root, "0000000a")
    options = InspectionOptions(minimum_months=minimum)
    row = inspect_chip("0000000a", Archive.open(archive_root), options).row
    assert row["usable"] is usable
    assert row["problem"] == ("" if usable else "It has images of 1 of the 2 months needed.")
    assert len(row["missing_files"]) == 11  # Sentinel-1 sees every month


@pytest.mark.parametrize(
    ("on_damaged", "usable"), [("leave_out_chip", False), ("leave_out_image", True)]
)
def test_damaged_images(archive_root: Path, on_damaged: str, usable: bool) -> None:
    for name in ("0000000a_S1_03.tif", "0000000a_S2_06.tif"):
        (archive_root / FEATURES / name).write_bytes(b"")
    options = InspectionOptions(on_damaged=on_damaged)
    report = inspect_chip("0000000a", Archive.open(archive_root), options)
    assert report.row["usable"] is usable
    assert report.row["damaged_files"] == ["0000000a_S1_03.tif", "0000000a_S2_06.tif"]
    assert report.row["problem"] == ("0000000a_S1_03.tif is empty, and 1 other file is damaged.")
    assert report.row["s2_months"] == [0, 11]
    assert np.isnan(report.row["s1_nodata_fraction"][3])
    assert len(report.damage) == 2


@pytest.mark.parametrize("on_damaged", ["leave_out_chip", "leave_out_image"])
def test_a_damaged_label_costs_the_chip(archive_root: Path, on_damaged: str) -> None:
    path = archive_root / "train_agbm" / "0000000a_agbm.tif"
    write_raster(path, np.full((32, 32), np.nan, np.float32))
    options = InspectionOptions(on_damaged=on_damaged)
    row = inspect_chip("0000000a", Archive.open(archive_root), options).row
    assert row["usable"] is False
    assert row["problem"] == "0000000a_agbm.tif has 1024 NaN or infinite values."
    assert row["missing_files"] == []


def test_row_of_a_real_chip(sample_root: Path) -> None:
    row = inspect_chip("000aa810", Archive.open(sample_root), InspectionOptions()).row
    assert row["usable"] is True
    assert row["s2_months"] == [6, 7, 8, 9, 10, 11]
    assert row["s1_nodata_fraction"] == [0, 0, *[0.5] * 6, *[0] * 4]
    assert row["s2_zero_fraction"][9] == pytest.approx(0.998, abs=5e-4)
    row = inspect_chip("001b0634", Archive.open(sample_root), InspectionOptions()).row
    assert row["problem"] == "It has images of 1 of the 2 months needed."


@pytest.mark.parametrize(("on_incomplete", "usable"), [("leave_out_chip", False), ("use", True)])
def test_an_interrupted_download(
    sample_root: Path, tmp_path: Path, on_incomplete: str, usable: bool
) -> None:
    root = tmp_path / "download"
    (root / FEATURES).mkdir(parents=True)
    for name in ("features_metadata.csv", "train_agbm_metadata.csv", "train_agbm"):
        (root / name).symlink_to(sample_root / name)
    for name in ("000aa810_S1_00.tif", "000aa810_S1_01.tif", "000aa810_S2_06.tif"):
        (root / FEATURES / name).symlink_to(sample_root / FEATURES / name)
    options = InspectionOptions(on_incomplete=on_incomplete)
    row = inspect_chip("000aa810", Archive.open(root), options).row
    assert row["usable"] is usable
    assert row["problem"] == (
        "It is incomplete: 15 of the 18 images that the metadata list are not there (the first is "
        "000aa810_S1_02.tif)."
    )
    assert len(row["missing_files"]) == 15


def test_a_damaged_image_in_quarantine_is_not_missing(archive_root: Path) -> None:
    name = "0000000a_S2_06.tif"
    (archive_root / FEATURES / name).unlink()
    options = InspectionOptions(on_damaged="leave_out_image")
    damage = {"0000000a": {name: "is empty"}}
    row = inspect_chip("0000000a", Archive.open(archive_root), options, damage).row
    assert (row["usable"], row["problem"]) == (True, f"{name} is empty.")


@pytest.mark.parametrize("wrong", [{"minimum_months": 0}, {"on_damaged": "ignore"}, {"months": 2}])
def test_bad_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InspectionOptions(**wrong)


def test_a_partly_labelled_chip_has_the_statistics_of_its_labels(tmp_path, make_chip):
    agb = np.full((32, 32), np.nan, np.float32)
    agb[0, :4] = [0, 40, 80, 120]
    chip = make_chip("0000000a", agb_mg_per_ha=agb)
    write_archive(tmp_path / "partly", [chip], progress=False)
    row = inspect_chip("0000000a", Archive.open(tmp_path / "partly"), InspectionOptions()).row
    assert row["usable"]
    assert row["problem"] == ""
    assert row["agb_mean_mg_per_ha"] == 60
    assert row["agb_sd_mg_per_ha"] == pytest.approx(2000**0.5)
    assert (row["agb_min_mg_per_ha"], row["agb_max_mg_per_ha"]) == (0, 120)


def test_splits_count_what_is_there_and_what_is_usable(chip_table):
    train, test = summarise_data(chip_table).splits
    assert train["chips"] == 3
    assert train["usable"] == 2
    assert train["labelled"] == 2
    assert train["size"] == "32 × 48"
    assert train["s2_months"] == "0 to 3, median 1"
    assert train["agb_mean"] == pytest.approx(50.0)
    assert test["agb_mean"] is None


def test_months_are_those_of_usable_chips(chip_table):
    months = {row["name"]: row for row in summarise_data(chip_table).months}
    assert tuple(months) == MONTH_NAMES
    assert months["June"]["s2"] == pytest.approx(1.0)
    assert months["September"]["s2"] == pytest.approx(1 / 3)
    assert months["January"]["s2"] == 0
    assert all(row["s1"] == 1 for row in months.values())


def test_faults_are_listed_by_chip(chip_table):
    data = summarise_data(chip_table)
    assert data.missing.shown == (("t0", "t0_S1_03.tif, t0_S1_04.tif"),)
    assert data.damaged.shown == (("c2", "c2_S2_07.tif"),)
    assert data.left_out.shown == (("c2", "c2_S2_07.tif is truncated."),)


def test_long_lists_are_cut_and_counted(chip_table):
    damaged = chip_table[chip_table["chip_id"] == "c2"]
    listing = summarise_data(pd.concat([damaged] * 50, ignore_index=True)).damaged
    assert listing.count == 50
    assert listing.more == 50 - len(listing.shown) > 0


def test_survives_parquet_and_a_table_without_usable_chips(chip_table, tmp_path):
    chip_table.to_parquet(tmp_path / "table.parquet")
    again = pd.read_parquet(tmp_path / "table.parquet")
    assert summarise_data(again) == summarise_data(chip_table)
    unusable = summarise_data(chip_table.assign(usable=False))
    assert {row["s2"] for row in unusable.months} == {0.0}
