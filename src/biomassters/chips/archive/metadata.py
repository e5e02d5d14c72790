"""The metadata of an archive: what should exist, under any of the names in use.

Re-hosted copies rename the CSVs (``features_metadata_FzP19JI.csv``,
``biomassters_features_metadata.csv``) and nest the folders.
"""

import io
import re

import pandas as pd

from biomassters.chips.archive.files import ArchiveFiles
from biomassters.chips.archive.layout import CHIP_ID
from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.errors import BadInputError
from biomassters.io.files import read_regular
from biomassters.io.storage import is_url, read

_MOST_BYTES = 2**30

FEATURES_METADATA = "features_metadata"
LABELS_METADATA = "train_agbm_metadata"
SPLITS = ("train", "test")
_FEATURE_COLUMNS = ("filename", "chip_id", "satellite", "split")
_LABEL_COLUMNS = ("filename", "chip_id")
_SENSOR_OF_TAG = {sensor.file_tag: sensor.name for sensor in SENSORS}
_FEATURE_NAME = re.compile(rf"([\w.-]+)_({'|'.join(_SENSOR_OF_TAG)})_(\d\d)\.tiff?", re.ASCII)
_LABEL_NAME = r"[\w.-]+\.tiff?"


def read_features(files: ArchiveFiles) -> pd.DataFrame:
    """Images that the metadata list, and where they lie.

    Returns:
        One row an image, by chip, sensor and month: chip_id, split, sensor (``"s1"`` or
        ``"s2"``), month (0 is September), filename, path (``""`` where the file is missing).

    Raises:
        BadInputError: If the metadata are missing or wrong.
    """
    path = find_metadata(files, FEATURES_METADATA)
    listed = read_metadata_csv(path, _FEATURE_COLUMNS)
    # The month is in the file name; the metadata's column holds English names.
    parts = _name_parts(listed["filename"])
    wrong = (
        (parts["month"] >= MONTH_COUNT)
        | (parts["chip_id"] != listed["chip_id"])
        | (parts["satellite"] != listed["satellite"])
        | ~listed["split"].isin(SPLITS)
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
            "path": files.paths(listed["filename"]),
        }
    ).drop_duplicates()
    twice = features.duplicated(["chip_id", "sensor", "month"])
    _refuse(path, features, twice, "is a second image of its chip, satellite and month")
    mixed = features.groupby("chip_id")["split"].transform("nunique") > 1
    _refuse(path, features, mixed, "belongs to a chip of both splits")
    return features.sort_values(["chip_id", "sensor", "month"], ignore_index=True)


def read_labels(files: ArchiveFiles) -> pd.DataFrame:
    """Labels that the metadata list, and where they lie.

    Returns:
        One row a label, by chip: chip_id, filename, path (``""`` where the file is missing).

    Raises:
        BadInputError: If the metadata are missing or wrong.
    """
    path = find_metadata(files, LABELS_METADATA)
    listed = read_metadata_csv(path, _LABEL_COLUMNS)
    _refuse(path, listed, ~listed["filename"].str.fullmatch(_LABEL_NAME), "is not a TIFF's name")
    _refuse_ids(path, listed)
    labels = listed[["chip_id", "filename"]].drop_duplicates()
    _refuse(path, labels, labels.duplicated("chip_id"), "is a second label of its chip")
    labels = labels.assign(path=files.paths(labels["filename"]))
    return labels.sort_values("chip_id", ignore_index=True)


def find_metadata(files: ArchiveFiles, kind: str) -> str:
    """The CSV of a kind: the one nearest to the root, the official name before others.

    Args:
        files: Files of the archive.
        kind: ``"features_metadata"`` or ``"train_agbm_metadata"``.

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
    if len(official or nearest) > 1:
        first, second = sorted(official or nearest)[:2]
        raise BadInputError(
            f"{first} and {second} both look like the archive's {kind}: keep one of them."
        )
    return (official or nearest)[0]


def read_metadata_csv(path: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """A metadata file as text, with at least these columns and one row.

    Raises:
        BadInputError: If it isn't that.
    """
    try:
        # As text: a chip id such as 0003d2eb or 12345678 is not a number.
        source = io.BytesIO(read(path) if is_url(path) else read_regular(path, _MOST_BYTES))
        table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except BadInputError:
        raise
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split()).rstrip(".")
        raise BadInputError(f"{path} can't be read as CSV ({message}): fetch it again.") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise BadInputError(
            f"{path} has no column {' nor '.join(missing)}: fetch the archive's metadata again."
        )
    if table.empty:
        raise BadInputError(f"{path} lists no files: fetch the archive's metadata again.")
    return table


def _name_parts(names: pd.Series) -> pd.DataFrame:
    """chip_id, satellite and month of images' names; month 99 where a name is none."""
    # A loop of our own: Series.str.extract takes four times as long.
    matches = map(_FEATURE_NAME.fullmatch, names.to_numpy())
    parts = [("", "", "99") if match is None else match.groups() for match in matches]
    chip_ids, tags, months = zip(*parts, strict=True)
    columns = {"chip_id": chip_ids, "satellite": tags, "month": [int(month) for month in months]}
    return pd.DataFrame(columns, index=names.index)


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
