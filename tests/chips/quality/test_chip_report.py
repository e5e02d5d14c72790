from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from biomassters.chips.archive.archive import Archive
from biomassters.chips.quality.chip_report import COLUMNS, InspectionOptions, inspect_chip
from biomassters.io.raster import write_raster

FEATURES = "train_features"


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

    report = inspect_chip(Archive.open(archive_root), "0000000a", InspectionOptions())
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
    row = inspect_chip(Archive.open(archive_root), "0000000c", InspectionOptions()).row
    assert row["usable"] is True
    assert np.isnan(row["agb_mean_mg_per_ha"])


def test_a_training_chip_does(archive_root: Path) -> None:
    (archive_root / "train_agbm" / "0000000a_agbm.tif").unlink()
    row = inspect_chip(Archive.open(archive_root), "0000000a", InspectionOptions()).row
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
    row = inspect_chip(Archive.open(archive_root), "0000000a", options).row
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
    report = inspect_chip(Archive.open(archive_root), "0000000a", options)
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
    row = inspect_chip(Archive.open(archive_root), "0000000a", options).row
    assert row["usable"] is False
    assert row["problem"] == "0000000a_agbm.tif has 1024 NaN or infinite values."
    assert row["missing_files"] == []


def test_real_chip(sample_root: Path) -> None:
    row = inspect_chip(Archive.open(sample_root), "000aa810", InspectionOptions()).row
    assert row["usable"] is True
    assert row["s2_months"] == [6, 7, 8, 9, 10, 11]
    assert row["s1_nodata_fraction"] == [0, 0, *[0.5] * 6, *[0] * 4]
    assert row["s2_zero_fraction"][9] == pytest.approx(0.998, abs=5e-4)
    row = inspect_chip(Archive.open(sample_root), "001b0634", InspectionOptions()).row
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
    row = inspect_chip(Archive.open(root), "000aa810", options).row
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
    row = inspect_chip(Archive.open(archive_root), "0000000a", options, {name: "is empty"}).row
    assert (row["usable"], row["problem"]) == (True, f"{name} is empty.")


@pytest.mark.parametrize("wrong", [{"minimum_months": 0}, {"on_damaged": "ignore"}, {"months": 2}])
def test_bad_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InspectionOptions(**wrong)
