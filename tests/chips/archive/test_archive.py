import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.archive.archive import Archive, UsableChips, data_name
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.chip import Chip
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.errors import BadInputError
from biomassters.io.raster import read_raster, write_raster
from biomassters.io.raster_spec import DamagedFileError, Georeference

FEATURES, LABELS = "train_features", "train_agbm"


def test_chips_are_read_as_written(archive_root: Path, chips: list[Chip]) -> None:
    archive = Archive.open(archive_root)
    assert archive.chip_ids() == ["0000000a", "0000000b", "0000000c"]
    assert archive.chip_ids("train") == ["0000000a", "0000000b"]
    assert archive.chip_ids("test") == ["0000000c"]
    assert archive.shape == (32, 32)
    for chip in chips:
        found = archive.read_chip(chip.chip_id)
        assert found.split == chip.split
        np.testing.assert_array_equal(found.present, chip.present)
        for name, year in chip.images.items():
            np.testing.assert_array_equal(found.images[name], year)
            assert found.images[name].dtype == year.dtype
        assert found.georeference is None
    np.testing.assert_array_equal(
        archive.read_chip("0000000a").agb_mg_per_ha, chips[0].agb_mg_per_ha
    )
    assert archive.read_chip("0000000c").agb_mg_per_ha is None


def test_paths(archive_root: Path) -> None:
    archive = Archive.open(archive_root)
    path = archive_root / FEATURES / "0000000a_S2_06.tif"
    assert archive.feature_path("0000000a", "s2", 6) == path
    assert archive.feature_path("0000000a", "s2", 7) is None
    assert archive.label_path("0000000a") == archive_root / LABELS / "0000000a_agbm.tif"
    assert archive.label_path("0000000c") is None
    path.unlink()
    assert Archive.open(archive_root).feature_path("0000000a", "s2", 6) is None


def test_missing_files(archive_root: Path) -> None:
    assert Archive.open(archive_root).missing_files("0000000a") == []
    (archive_root / FEATURES / "0000000a_S1_07.tif").unlink()
    (archive_root / FEATURES / "0000000a_S2_06.tif").unlink()
    (archive_root / LABELS / "0000000a_agbm.tif").unlink()
    archive = Archive.open(archive_root)
    missing = ["0000000a_S1_07.tif", "0000000a_S2_06.tif", "0000000a_agbm.tif"]
    assert archive.missing_files("0000000a") == missing
    chip = archive.read_chip("0000000a")
    assert chip.present.sum(axis=0).tolist() == [11, 2]
    assert (chip.images["s1"][7] == -9999).all()
    assert not chip.images["s2"][6].any()
    assert chip.agb_mg_per_ha is None


def test_unlisted_months_of_s1_are_missing(tmp_path: Path, make_chip: Callable[..., Chip]) -> None:
    write_archive(tmp_path / "x", [make_chip("0a", "test", s1_months=range(1, 12))], progress=False)
    assert Archive.open(tmp_path / "x").missing_files("0a") == ["0a_S1_00.tif"]


def test_labels_of_other_chips_do_not_matter(archive_root: Path) -> None:
    path = archive_root / "train_agbm_metadata.csv"
    more = pd.DataFrame({"filename": ["0000000d_agbm.tif"], "chip_id": ["0000000d"]})
    pd.concat([pd.read_csv(path, dtype=str), more]).to_csv(path, index=False)
    archive = Archive.open(archive_root)
    assert archive.chip_ids("train") == archive.labels["chip_id"].tolist()


def test_test_chips_need_no_label_metadata(tmp_path: Path, make_chip: Callable[..., Chip]) -> None:
    write_archive(tmp_path / "x", [make_chip("0a", "test")], progress=False)
    (tmp_path / "x" / "train_agbm_metadata.csv").unlink()
    assert Archive.open(tmp_path / "x").chip_ids() == ["0a"]


def test_renamed_and_nested(archive_root: Path, chips: list[Chip]) -> None:
    deep = archive_root / "part1" / "data"
    deep.mkdir(parents=True)
    for folder in (FEATURES, LABELS, "test_features"):
        (archive_root / folder).rename(deep / folder)
    (archive_root / "features_metadata.csv").rename(archive_root / "features_metadata_F1J.csv")
    labels = archive_root / "train_agbm_metadata.csv"
    labels.rename(archive_root / "part1" / "biomassters_train_agbm_metadata.csv")
    chip = Archive.open(archive_root).read_chip("0000000b")
    np.testing.assert_array_equal(chip.images["s2"], chips[1].images["s2"])
    np.testing.assert_array_equal(chip.agb_mg_per_ha, chips[1].agb_mg_per_ha)


def test_damage(archive_root: Path) -> None:
    for name in ("0000000a_S1_03.tif", "0000000a_S2_06.tif"):
        path = archive_root / FEATURES / name
        path.write_bytes(path.read_bytes()[:-1])
    label = archive_root / LABELS / "0000000a_agbm.tif"
    write_raster(label, np.full((32, 32), -1, np.float32))
    archive = Archive.open(archive_root)
    with pytest.raises(DamagedFileError, match=r"0000000a_S1_03.tif is truncated"):
        archive.read_chip("0000000a")
    damage: list[DamagedFileError] = []
    chip = archive.read_chip("0000000a", on_damage=damage.append)
    names = ["0000000a_S1_03.tif", "0000000a_S2_06.tif", "0000000a_agbm.tif"]
    assert [error.name for error in damage] == names
    skipping = archive.read_chip("0000000a", skip=names)
    for found in (chip, skipping):
        assert found.present.sum(axis=0).tolist() == [11, 2]
        assert (found.images["s1"][3] == -9999).all()
        assert not found.images["s2"][6].any()
        assert found.agb_mg_per_ha is None


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("0000000a_S1_00.tif", np.zeros((4, 32, 32), np.float32), "is 0 everywhere"),
        ("0000000a_S1_00.tif", np.full((4, 32, 32), np.nan, np.float32), "NaN or infinite"),
        ("0000000a_S1_00.tif", np.full((4, 32, 32), -9, np.float64), "holds float64"),
        ("0000000a_S1_00.tif", np.full((3, 32, 32), -9, np.float32), "has 3 bands"),
        ("0000000a_S2_00.tif", np.zeros((11, 32, 32), np.uint16), "is 0 everywhere"),
        ("0000000a_S2_00.tif", np.ones((11, 32, 16), np.uint16), "has 32 x 16 pixels"),
    ],
)
def test_kinds_of_damage(archive_root: Path, name: str, array: np.ndarray, reason: str) -> None:
    write_raster(archive_root / FEATURES / name, array)
    with pytest.raises(DamagedFileError, match=f"{name} .*{reason}.*: fetch it again"):
        Archive.open(archive_root).read_chip("0000000a")


def test_reflectance_is_to_be_multiplied_not_fetched_again(archive_root: Path) -> None:
    path = archive_root / FEATURES / "0000000a_S2_06.tif"
    image, _ = read_raster(path)
    write_raster(path, (image / 10_000).astype(np.float32))
    with pytest.raises(DamagedFileError, match="multiply by 10,000 and save it as uint16") as fault:
        Archive.open(archive_root).read_chip("0000000a")
    assert "looks like reflectance 0-1, expected × 10,000" in fault.value.reason
    assert str(pickle.loads(pickle.dumps(fault.value))) == str(fault.value)


def test_nodata_everywhere_is_not_damage(archive_root: Path) -> None:
    nodata = np.full((4, 32, 32), -9999, np.float32)
    write_raster(archive_root / FEATURES / "0000000a_S1_00.tif", nodata)
    assert Archive.open(archive_root).read_chip("0000000a").present[0, 0]


def test_the_first_file_does_not_decide_the_size(archive_root: Path) -> None:
    for name in ("0000000a_S1_00.tif", "0000000a_S1_01.tif"):
        write_raster(archive_root / FEATURES / name, np.ones((4, 8, 8), np.float32))
    assert Archive.open(archive_root).shape == (32, 32)


def test_georeference(tmp_path: Path, make_chip: Callable[..., Chip]) -> None:
    place = Georeference("EPSG:32635", (10.0, 0.0, 5e5, 0.0, -10.0, 7e6))
    write_archive(tmp_path / "x", [make_chip("0a", georeference=place)], progress=False)
    assert Archive.open(tmp_path / "x").read_chip("0a").georeference == place


def test_signature(archive_root: Path) -> None:
    archive = Archive.open(archive_root)
    before = archive.signature("0000000a")
    assert archive.signature("0000000b") != before
    assert archive.signature("0000000a", skip=["0000000a_S1_03.tif"]) != before
    assert Archive.open(archive_root).signature("0000000a") == before
    path = archive_root / FEATURES / "0000000a_S1_03.tif"
    os.utime(path, (1, 1))
    assert archive.signature("0000000a") != before
    assert archive.signature("0000000b") == Archive.open(archive_root).signature("0000000b")
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"0000000a_S1_03.tif has vanished"):
        archive.signature("0000000a")


def test_pickled(archive_root: Path) -> None:
    archive = Archive.open(archive_root)
    copy = pickle.loads(pickle.dumps(archive))
    assert copy.signature("0000000a") == archive.signature("0000000a")
    assert copy.root == archive.root


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is not a folder"):
        Archive.open(tmp_path / "absent")


def test_no_tiffs(archive_root: Path) -> None:
    for folder in (FEATURES, LABELS, "test_features"):
        shutil.rmtree(archive_root / folder)
    with pytest.raises(BadInputError, match="holds none of the TIFFs"):
        Archive.open(archive_root)


def test_no_readable_tiff(archive_root: Path) -> None:
    for path in archive_root.rglob("*.tif"):
        path.write_bytes(b"<html>")
    with pytest.raises(BadInputError, match="holds no readable TIFF"):
        Archive.open(archive_root).read_chip("0000000a")


def test_no_such_chip(archive_root: Path) -> None:
    with pytest.raises(BadInputError, match="has no chip 'zz'"):
        Archive.open(archive_root).read_chip("zz")


def test_real_chip(sample_root: Path) -> None:
    archive = Archive.open(sample_root)
    assert archive.chip_ids() == ["000aa810", "001b0634"]
    chip = archive.read_chip("000aa810")
    assert chip.shape == (256, 256)
    assert chip.present[:, 0].all()
    assert np.flatnonzero(chip.present[:, 1]).tolist() == [6, 7, 8, 9, 10, 11]
    descending_nodata = (chip.images["s1"][:, 2:] == -9999).all(axis=(1, 2, 3))
    assert np.flatnonzero(descending_nodata).tolist() == [2, 3, 4, 5, 6, 7]
    assert chip.seen("s2", 9).mean() < 0.01
    assert chip.agb_mg_per_ha is not None
    assert chip.agb_mg_per_ha.max() == pytest.approx(492.13)
    assert archive.missing_files("000aa810") == []
    assert len(archive.missing_files("001b0634")) == 11


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("s3://KEY:PLANTED@box/forest/", "forest"),
        ("https://host.example/forest?sig=PLANTED/1", "forest"),
        ("https://me:PLANTED@host.example", "***@host.example"),
        ("/data/a?b", "a?b"),
    ],
)
def test_the_name_of_the_data_holds_no_secret_of_the_address(root, name):
    assert data_name(root) == name


@pytest.fixture
def damaged_root(archive_root: Path) -> Path:
    """The archive with a truncated image of chip a and no label of chip b."""
    path = archive_root / "train_features" / "0000000a_S2_06.tif"
    path.write_bytes(path.read_bytes()[:-1])
    (archive_root / "train_agbm" / "0000000b_agbm.tif").unlink()
    return archive_root


def source_of(root: Path, on_damaged: str, scratch: Path) -> UsableChips:
    archive = Archive.open(root)
    table, _ = inspect_archive(archive, InspectionOptions(on_damaged=on_damaged))
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
