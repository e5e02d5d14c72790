"""The metadata of an archive: what should exist, under any of the names in use.

Re-hosted copies rename the CSVs (``features_metadata_FzP19JI.csv``,
``biomassters_features_metadata.csv``). ``read_features`` and ``read_labels`` are what reading
needs; ``read_listing`` adds sizes, checksums and addresses, for acquisition and verification.
"""

import io
import re

import pandas as pd

from biomassters.chips.archive.layout import CHIP_ID, S3_COLUMNS, ArchiveFiles
from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.errors import BadInputError
from biomassters.io.files import read_regular
from biomassters.io.storage import is_url, read

FEATURES_METADATA = "features_metadata"
LABELS_METADATA = "train_agbm_metadata"
LABEL = "label"  # a listing's sensor of a label, whose month is −1

_NEEDED = {
    FEATURES_METADATA: ("filename", "chip_id", "satellite", "split"),
    LABELS_METADATA: ("filename", "chip_id"),
}
_MOST_BYTES = 2**30
_LARGEST = {"size": 1 << 40, "cksum": (1 << 32) - 1}
_SENSOR_OF_TAG = {sensor.tag: sensor.name for sensor in SENSORS}
_FEATURE_NAME = re.compile(rf"([\w.-]+)_({'|'.join(_SENSOR_OF_TAG)})_(\d\d)\.tiff?", re.ASCII)
_LABEL_NAME = r"[\w.-]+\.tiff?"


def read_features(files: ArchiveFiles) -> pd.DataFrame:
    """Images that the metadata list, and where they lie.

    Returns:
        One row an image, by chip, sensor and month: chip_id, split, sensor (its name), month
        (0 is September), filename, path (``""`` where the file is missing).

    Raises:
        BadInputError: If the metadata are missing or wrong.
    """
    return _features(files, *_read_metadata(files, FEATURES_METADATA))


def read_labels(files: ArchiveFiles) -> pd.DataFrame:
    """Labels that the metadata list, even beside the images of a few chips, and where they lie.

    Returns:
        One row a label, by chip: chip_id, filename, path (``""`` where the file is missing).

    Raises:
        BadInputError: If the metadata are missing or wrong.
    """
    return _labels(files, *_read_metadata(files, LABELS_METADATA))


def read_listing(files: ArchiveFiles, with_labels: bool = True) -> pd.DataFrame:
    """Every file that the metadata list, the training chips' labels only if asked for.

    Returns:
        One row a file, by chip, sensor and month: chip_id, split, sensor (its name, or
        ``"label"``), month (0 is September, −1 for a label), filename, folder (where it belongs
        in the archive), path (``""`` where it is missing), size in bytes and POSIX cksum (Int64,
        <NA> where the metadata have none), s3path_us, s3path_eu, s3path_as (``""`` likewise).

    Raises:
        BadInputError: If the metadata are missing or wrong, or a name in them leads elsewhere.
    """
    path, table = _read_metadata(files, FEATURES_METADATA)
    _refuse_climbing(path, table)
    features = _features(files, path, table)
    tables = [_with_facts(features.assign(folder=features["split"] + "_features"), table)]
    train = features.loc[features["split"] == "train", "chip_id"].unique()
    if with_labels and len(train):
        path, table = _read_metadata(files, LABELS_METADATA)
        _refuse_climbing(path, table)
        labels = _labels(files, path, table)
        labels = labels[labels["chip_id"].isin(train)]
        labels = labels.assign(split="train", sensor=LABEL, month=-1, folder="train_agbm")
        tables.append(_with_facts(labels, table))
    listing = pd.concat(tables, ignore_index=True)
    return listing.sort_values(["chip_id", "sensor", "month"], ignore_index=True)


def find_metadata(files: ArchiveFiles, kind: str) -> str:
    """The CSV of a kind: the one nearest to the root, the official name before others.

    Raises:
        BadInputError: If there is none, or more than one to choose from.
    """
    pattern = re.compile(rf"(.*/)?([^/]+[_-])?{kind}[^/]*\.csv")
    found = [path for path in files.csv_paths if pattern.fullmatch(path)]
    if not found:
        raise BadInputError(
            f"{files.root} has no {kind}.csv (or {kind}_*.csv): copy the archive's metadata there."
        )
    depth = min(path.count("/") for path in found)
    nearest = [path for path in found if path.count("/") == depth]
    official = [path for path in nearest if path.endswith(f"/{kind}.csv")]
    path, *others = sorted(official or nearest)
    if others:
        raise BadInputError(
            f"{path} and {others[0]} both look like the archive's {kind}: keep one of them."
        )
    return path


def climbs(name: str) -> bool:
    """Whether a relative path leads out of the folder that it is relative to."""
    parts = re.split(r"[/\\]", name)
    return ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in name


def _read_metadata(files: ArchiveFiles, kind: str) -> tuple[str, pd.DataFrame]:
    """Path and content of a metadata file, with the columns needed and one row or more."""
    path = find_metadata(files, kind)
    try:
        # As text: a chip id such as 0003d2eb or 12345678 is not a number.
        source = io.BytesIO(read(path) if is_url(path) else read_regular(path, _MOST_BYTES))
        table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except BadInputError:
        raise
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split()).rstrip(".")
        raise BadInputError(f"{path} can't be read as CSV ({message}): fetch it again.") from error
    missing = [column for column in _NEEDED[kind] if column not in table.columns]
    if missing:
        raise BadInputError(
            f"{path} has no column {' nor '.join(missing)}: fetch the archive's metadata again."
        )
    if table.empty:
        raise BadInputError(f"{path} lists no files: fetch the archive's metadata again.")
    return path, table


def _features(files: ArchiveFiles, path: str, listed: pd.DataFrame) -> pd.DataFrame:
    # The month is in the file name; the metadata's column holds English names.
    parts = _name_parts(listed["filename"])
    wrong = (
        (parts["month"] >= MONTH_COUNT)
        | (parts["chip_id"] != listed["chip_id"])
        | (parts["satellite"] != listed["satellite"])
        | ~listed["split"].isin(["train", "test"])
    )
    _refuse(path, listed, wrong, "does not fit its chip_id, satellite and split")
    _refuse_ids(path, listed)
    features = pd.DataFrame(
        {
            "chip_id": listed["chip_id"],
            "split": listed["split"],
            "sensor": listed["satellite"].map(_SENSOR_OF_TAG),
            "month": parts["month"],
            "filename": listed["filename"],
            "path": [files.tif_paths.get(name, "") for name in listed["filename"].to_numpy()],
        }
    ).drop_duplicates()
    twice = features.duplicated(["chip_id", "sensor", "month"])
    _refuse(path, features, twice, "is a second image of its chip, satellite and month")
    mixed = features.groupby("chip_id")["split"].transform("nunique") > 1
    _refuse(path, features, mixed, "belongs to a chip of both splits")
    return features.sort_values(["chip_id", "sensor", "month"], ignore_index=True)


def _labels(files: ArchiveFiles, path: str, listed: pd.DataFrame) -> pd.DataFrame:
    _refuse(path, listed, ~listed["filename"].str.fullmatch(_LABEL_NAME), "is not a TIFF's name")
    _refuse_ids(path, listed)
    labels = listed[["chip_id", "filename"]].drop_duplicates()
    _refuse(path, labels, labels.duplicated("chip_id"), "is a second label of its chip")
    labels = labels.assign(path=[files.tif_paths.get(name, "") for name in labels["filename"]])
    return labels.sort_values("chip_id", ignore_index=True)


def _name_parts(names: pd.Series) -> pd.DataFrame:
    """chip_id, satellite and month of images' names; month 99 where a name is none."""
    # A loop of our own: Series.str.extract takes four times as long.
    matches = map(_FEATURE_NAME.fullmatch, names.to_numpy())
    parts = [("", "", "99") if match is None else match.groups() for match in matches]
    chip_ids, tags, months = zip(*parts, strict=True)
    columns = {"chip_id": chip_ids, "satellite": tags, "month": list(map(int, months))}
    return pd.DataFrame(columns, index=names.index)


def _with_facts(files_listed: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Adds size, checksum and addresses."""
    table = table.drop_duplicates("filename")
    facts = table[["filename"]].copy()
    for name, largest in _LARGEST.items():
        facts[name] = _whole_numbers(table, name, largest)
    for name in S3_COLUMNS:
        facts[name] = table.get(name, "")
    return files_listed.merge(facts, on="filename", how="left", validate="one_to_one")


def _whole_numbers(table: pd.DataFrame, name: str, largest: int) -> pd.Series:
    """A column of whole numbers; <NA> for what is none."""
    if name not in table:
        return pd.Series(pd.NA, table.index, dtype="Int64")
    text = table[name].str.strip()
    digits = text.where(text.str.fullmatch(r"\d{1,15}"))
    numbers = pd.to_numeric(digits).astype("Int64")
    return numbers.where(numbers <= largest)


def _refuse_climbing(path: str, table: pd.DataFrame) -> None:
    for name in table["filename"]:
        # Without any of these, which no file of the archive has, a name leads nowhere.
        if re.search(r"[/\\\0]", name) and climbs(name):
            raise BadInputError(
                f"{path} lists {name!r}, which leads out of the archive's folder: use the metadata "
                "of a source that you trust."
            )


def _refuse_ids(path: str, table: pd.DataFrame) -> None:
    odd = ~table["chip_id"].str.fullmatch(CHIP_ID)
    if odd.any():
        raise BadInputError(
            f"{path} lists the chip {table['chip_id'][odd].iloc[0]!r}: chips are named with "
            "letters, digits, '_', '.' and '-', not '-' first; correct the file."
        )


def _refuse(path: str, table: pd.DataFrame, wrong: pd.Series, why: str) -> None:
    if wrong.any():
        name = table["filename"][wrong].iloc[0]
        count = int(wrong.sum())
        more = f" (and {count - 1} more)" if count > 1 else ""
        raise BadInputError(f"{path} lists {name!r}, which {why}{more}: correct the file.")
