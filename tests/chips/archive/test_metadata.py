import time
from pathlib import Path

import pandas as pd
import pytest

from biomassters.chips.archive.layout import ArchiveFiles
from biomassters.chips.archive.metadata import find_metadata, read_features, read_labels
from biomassters.chips.folds import FoldOptions, make_folds
from biomassters.errors import BadInputError

GOOD = pd.DataFrame(
    [
        ("0a_S2_03.tif", "0a", "S2", "train", "December"),
        ("0a_S1_11.tif", "0a", "S1", "train", "August"),
        ("12345678_S1_00.tif", "12345678", "S1", "test", "September"),
    ],
    columns=["filename", "chip_id", "satellite", "split", "month"],
)


def features_of(
    root: Path, table: pd.DataFrame, name: str = "features_metadata.csv"
) -> pd.DataFrame:
    table.to_csv(root / name, index=False)
    return read_features(ArchiveFiles.find(root))


def test_features(tmp_path: Path) -> None:
    (tmp_path / "0a_S2_03.tif").touch()
    features = features_of(tmp_path, GOOD)
    assert list(features) == ["chip_id", "split", "sensor", "month", "filename", "path"]
    assert features.to_numpy().tolist() == [
        ["0a", "train", "s1", 11, "0a_S1_11.tif", ""],
        ["0a", "train", "s2", 3, "0a_S2_03.tif", str(tmp_path / "0a_S2_03.tif")],
        ["12345678", "test", "s1", 0, "12345678_S1_00.tif", ""],
    ]


def test_month_comes_from_the_file_name(tmp_path: Path) -> None:
    features = features_of(tmp_path, GOOD.drop(columns="month"))
    assert features["month"].tolist() == [11, 3, 0]


def test_a_row_twice_is_one_file(tmp_path: Path) -> None:
    assert len(features_of(tmp_path, pd.concat([GOOD, GOOD]))) == 3


@pytest.mark.parametrize(
    "name",
    [
        "features_metadata.csv",
        "features_metadata_FzP19JI.csv",
        "biomassters_features_metadata.csv",
        "features_metadata (1).csv",
        "deeper/features_metadata.csv",
    ],
)
def test_names_in_use(tmp_path: Path, name: str) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "other_metadata.csv").touch()
    assert len(features_of(tmp_path, GOOD, name)) == 3


def test_the_nearest_and_then_the_official_name_counts(tmp_path: Path) -> None:
    for name in ("a/features_metadata.csv", "features_metadata_x.csv", "features_metadata.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_metadata(ArchiveFiles.find(tmp_path), "features_metadata")
    assert found == str(tmp_path / "features_metadata.csv")
    Path(found).rename(tmp_path / "features_metadata_y.csv")
    with pytest.raises(BadInputError, match=r"_x.csv and .*_y.csv both look like .* keep one"):
        find_metadata(ArchiveFiles.find(tmp_path), "features_metadata")


def test_none(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"has no features_metadata.csv .*: copy"):
        read_features(ArchiveFiles.find(tmp_path))
    with pytest.raises(BadInputError, match=r"has no train_agbm_metadata.csv .*: copy"):
        read_labels(ArchiveFiles.find(tmp_path))


@pytest.mark.parametrize("column", ["filename", "chip_id", "satellite", "split"])
def test_without_a_column(tmp_path: Path, column: str) -> None:
    with pytest.raises(BadInputError, match=rf"features_metadata.csv has no column {column}: "):
        features_of(tmp_path, GOOD.drop(columns=column))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\1\2\xff" * 99, b"a\n1,2\n3,4,5,6\n", b"filename,chip_id,satellite,split\n"],
)
def test_no_csv(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "features_metadata.csv").write_bytes(content)
    with pytest.raises(BadInputError, match=r"features_metadata.csv .*fetch .* again") as caught:
        read_features(ArchiveFiles.find(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("filename", "0a_S2_12.tif"),
        ("filename", "0a_S3_03.tif"),
        ("filename", "../0a_S2_03.tif"),
        ("filename", "0b_S2_03.tif"),
        ("filename", "0a.tif"),
        ("satellite", "S1"),
        ("split", "validation"),
        ("split", "test"),
        ("chip_id", "0b"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, column: str, value: str) -> None:
    table = GOOD.copy()
    table.loc[0, column] = value
    with pytest.raises(BadInputError, match=r"features_metadata.csv lists '.*', which .*: correct"):
        features_of(tmp_path, table)


def test_two_images_of_one_month(tmp_path: Path) -> None:
    table = pd.concat([GOOD, GOOD.iloc[:1].assign(filename="0a_S2_03.tiff")])
    with pytest.raises(BadInputError, match="second image of its chip"):
        features_of(tmp_path, table)


def test_labels(tmp_path: Path) -> None:
    (tmp_path / "0a_agbm.tif").touch()
    table = pd.DataFrame({"filename": ["0b_agbm.tif", "0a_agbm.tif"], "chip_id": ["0b", "0a"]})
    table.to_csv(tmp_path / "train_agbm_metadata_x1.csv", index=False)
    labels = read_labels(ArchiveFiles.find(tmp_path))
    assert labels.to_numpy().tolist() == [
        ["0a", "0a_agbm.tif", str(tmp_path / "0a_agbm.tif")],
        ["0b", "0b_agbm.tif", ""],
    ]


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "train_agbm_metadata.csv"
    path.write_text("filename,chip_id\n../0a_agbm.tif,0a\n")
    with pytest.raises(BadInputError, match="is not a TIFF's name"):
        read_labels(ArchiveFiles.find(tmp_path))
    path.write_text("filename,chip_id\n0a_agbm.tif,0a\n0b_agbm.tif,0a\n")
    with pytest.raises(BadInputError, match="is a second label"):
        read_labels(ArchiveFiles.find(tmp_path))


@pytest.mark.parametrize("chip_id", ["=cmd|' /C calc'!A0", "<script>", "a\nb", "-1", "@x", "a b"])
def test_a_chip_is_named_with_plain_characters(tmp_path: Path, chip_id: str) -> None:
    image = [f"{chip_id}_S1_00.tif", chip_id, "S1", "test", "September"]
    with pytest.raises(BadInputError, match=r"features_metadata\.csv lists") as caught:
        features_of(tmp_path, pd.DataFrame([image], columns=list(GOOD)))
    assert "\n" not in str(caught.value)
    label = {"filename": ["0a_agbm.tif"], "chip_id": [chip_id]}
    pd.DataFrame(label).to_csv(tmp_path / "train_agbm_metadata.csv", index=False)
    with pytest.raises(BadInputError, match="chips are named with letters"):
        read_labels(ArchiveFiles.find(tmp_path))


def test_the_whole_dataset(sample_root: Path, tmp_path: Path) -> None:
    """252,426 files to a table of chips and the reference's folds, in seconds."""
    listed = pd.read_parquet(sample_root / "features_inventory.parquet")
    listed.to_csv(tmp_path / "features_metadata.csv", index=False)
    started = time.process_time()
    features = read_features(ArchiveFiles.find(tmp_path))
    seconds = time.process_time() - started
    assert len(features) == 252_426
    train = features[features["split"] == "train"]
    assert (train["sensor"] == "s1").sum() == 104_268
    assert ((train["sensor"] == "s2") & (train["month"] == 3)).sum() == 1_251
    months = features.groupby(["chip_id", "split", "sensor"]).size().unstack().reset_index()
    assert months["split"].value_counts().to_dict() == {"train": 8_689, "test": 2_773}
    assert months["s1"].eq(12).all()
    assert months["s2"].fillna(0).median() == 11
    usable = months.assign(usable=True, agb_mean_mg_per_ha=0.0)
    folds = make_folds(usable, FoldOptions(count=10))
    assert folds["fold"].value_counts().sort_index().tolist() == [869] * 9 + [868]
    assert seconds < 60  # 2 on a quiet machine, see benchmarks
