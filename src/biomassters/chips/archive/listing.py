"""What an archive's metadata say of every file: size, checksum, address."""

import re
from collections.abc import Iterable

import pandas as pd

from biomassters.chips.archive.files import ArchiveFiles
from biomassters.chips.archive.metadata import (
    FEATURES_METADATA,
    LABELS_METADATA,
    find_metadata,
    read_features,
    read_labels,
    read_metadata_csv,
)
from biomassters.errors import BadInputError

LABEL = "label"
LABEL_MONTH = -1
LABEL_FOLDER = "train_agbm"
S3_COLUMNS = ("s3path_us", "s3path_eu", "s3path_as")
COLUMNS = (
    *("chip_id", "split", "sensor", "month", "filename", "folder", "path"),
    *("size", "cksum", *S3_COLUMNS),
)
_LARGEST = {"size": 1 << 40, "cksum": (1 << 32) - 1}


def read_listing(files: ArchiveFiles, with_labels: bool = True) -> pd.DataFrame:
    """Every file that the metadata list.

    Args:
        files: Files of the archive.
        with_labels: Whether to list labels as well.

    Returns:
        One row a file, by chip, sensor and month: chip_id, split, sensor (``"s1"``, ``"s2"`` or
        ``"label"``), month (0 is September, −1 for a label), filename, folder (where it belongs
        in the archive), path (``""`` where it is missing), size in bytes and POSIX cksum (Int64,
        <NA> where the metadata have none), s3path_us, s3path_eu, s3path_as (``""`` likewise).

    Raises:
        BadInputError: If the metadata are missing or wrong, or a name in them leads elsewhere.
    """
    for kind in (FEATURES_METADATA, LABELS_METADATA)[: 1 + with_labels]:
        _refuse_climbing(files, kind)
    features = read_features(files)
    listed = features.assign(folder=features["split"] + "_features")
    tables = [_with_facts(files, FEATURES_METADATA, listed)]
    train = features.loc[features["split"] == "train", "chip_id"].unique()
    if with_labels and len(train):
        labels = read_labels(files)
        labels = labels[labels["chip_id"].isin(train)]
        labels = labels.assign(split="train", sensor=LABEL, month=LABEL_MONTH, folder=LABEL_FOLDER)
        tables.append(_with_facts(files, LABELS_METADATA, labels))
    listing = pd.concat(tables, ignore_index=True)[list(COLUMNS)]
    return listing.sort_values(["chip_id", "sensor", "month"], ignore_index=True)


def climbs(name: str) -> bool:
    """Whether a relative path leads out of the folder that it is relative to."""
    parts = re.split(r"[/\\]", name)
    return ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in name


def _refuse_climbing(files: ArchiveFiles, kind: str) -> None:
    path = find_metadata(files, kind)
    for name in _distinct(read_metadata_csv(path, ("filename",))["filename"]):
        if climbs(name):
            raise BadInputError(
                f"{path} lists {name!r}, which leads out of the archive's folder: use the metadata "
                "of a source that you trust."
            )


def _distinct(names: Iterable[str]) -> list[str]:
    """Names with a slash, which no file of the archive has; the others can't lead anywhere."""
    return [name for name in names if "/" in name or "\\" in name or "\0" in name]


def _with_facts(files: ArchiveFiles, kind: str, listed: pd.DataFrame) -> pd.DataFrame:
    path = find_metadata(files, kind)
    table = read_metadata_csv(path, ("filename",)).drop_duplicates("filename")
    facts = pd.DataFrame({"filename": table["filename"]})
    for name, largest in _LARGEST.items():
        facts[name] = _whole_numbers(table, name, largest)
    for name in S3_COLUMNS:
        facts[name] = table.get(name, "")
    return listed.merge(facts, on="filename", how="left", validate="one_to_one")


def _whole_numbers(table: pd.DataFrame, name: str, largest: int) -> pd.Series:
    """A column of whole numbers; <NA> for what is none."""
    if name not in table:
        return pd.Series(pd.NA, table.index, dtype="Int64")
    text = table[name].str.strip()
    digits = text.where(text.str.fullmatch(r"\d{1,15}"))
    numbers = pd.to_numeric(digits).astype("Int64")
    return numbers.where(numbers <= largest)
