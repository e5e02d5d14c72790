"""The archive's metadata, and the files that they and the chosen subset make wanted."""

from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.acquisition.options import AcquisitionOptions, SubsetOptions
from biomassters.acquisition.sources import WantedFile, find_mirror, open_stream
from biomassters.chips.archive.layout import S3_COLUMNS, ArchiveFiles, label_name
from biomassters.chips.archive.metadata import (
    FEATURES_METADATA,
    LABEL,
    LABELS_METADATA,
    climbs,
    find_metadata,
    read_listing,
)
from biomassters.chips.split_labels import TEST_LABELS_FOLDER
from biomassters.errors import BadInputError
from biomassters.io.storage import names_bucket

TEST_LABEL = "test_label"  # a wanted file's kind, beside the sensors and LABEL


def bring_metadata(root: Path, options: AcquisitionOptions) -> None:
    """Copies the two metadata files from a mirror, where the archive's folder has none yet.

    The buckets of the challenge don't hold them, so that with them as the source the user has to
    bring them.

    Raises:
        BadInputError: If the mirror doesn't have them.
    """
    root.mkdir(parents=True, exist_ok=True)
    files = ArchiveFiles.find(root)
    if options.source == "s3" or options.tar_parts or options.zips:
        return
    for kind in (FEATURES_METADATA, LABELS_METADATA):
        if not any(kind in path.rpartition("/")[2] for path in files.csv_paths):
            data = _read(kind, options)
            partial = root / f".{kind}.partial"
            partial.write_bytes(data)
            partial.replace(root / f"{kind}.csv")


def _read(kind: str, options: AcquisitionOptions) -> bytes:
    source = options.source.rstrip("/")
    if "://" not in source:
        return Path(find_metadata(find_mirror(source), kind)).read_bytes()
    address = f"{source}/{kind}.csv"
    try:
        with open_stream(address, options) as stream:
            return bytes(stream.read())
    except BadInputError:
        raise
    except Exception as error:  # whatever a network library raises
        raise BadInputError(
            f"{address} can't be read ({str(error).splitlines()[0][:200]}): check "
            f"acquisition.source, or copy {kind}.csv into the archive's folder."
        ) from error


def wanted_files(root: Path, subset: SubsetOptions, region: str) -> list[WantedFile]:
    """Files of a subset, by chip, sensor and month.

    Args:
        root: The archive's folder, with its metadata.
        subset: Which files.
        region: Bucket of the addresses: ``"us"``, ``"eu"`` or ``"as"``.

    Raises:
        BadInputError: If the metadata are missing or wrong, lack a size or checksum, lead out of
            the folder, or hold no such file.
    """
    files = ArchiveFiles.find(root)
    listing = read_listing(files, LABEL in subset.sensors and subset.split != "test")
    if TEST_LABEL in subset.sensors:
        listing = pd.concat([listing, _test_labels(files, listing)], ignore_index=True)
    chosen = _choose(listing, subset)
    if chosen.empty:
        raise BadInputError(
            f"acquisition.subset: the metadata in {root} list no such file; widen the subset."
        )
    for name in ("size", "cksum"):
        unproven = chosen[name].isna() & (chosen["sensor"] != TEST_LABEL)
        lacking = chosen.loc[unproven, "filename"]
        if len(lacking):
            raise BadInputError(
                f"The metadata in {root} give no valid {name} for {lacking.iloc[0]} "
                f"({len(lacking)} such rows), without which a copy can't be proven right: fetch "
                "the metadata again."
            )
    columns = ("filename", "chip_id", "folder", "size", "cksum", f"s3path_{region}", "path")
    values = (chosen[name].astype(object).where(chosen[name].notna(), None) for name in columns)
    rows = zip(*values, strict=True)
    return [
        WantedFile(
            name, chip, folder, size, cksum, _checked(address, name),
            Path(path) if path else root / folder / name,
        )
        for name, chip, folder, size, cksum, address, path in rows
    ]  # fmt: skip


def _test_labels(files: ArchiveFiles, listing: pd.DataFrame) -> pd.DataFrame:
    """A row for the label of each test chip, which no metadata list.

    Their size is that of the training labels, for the bar and the disk; nothing is proven by it.
    """
    try:
        listed = read_listing(files)
        size = listed.loc[listed["sensor"] == LABEL, "size"].median()
    except BadInputError:  # an archive of test chips alone
        size = float("nan")
    chips = listing.loc[listing["split"] == "test", "chip_id"].drop_duplicates()
    names = chips.map(label_name)
    facts: dict[str, Any] = {"size": 0 if pd.isna(size) else int(size), "cksum": pd.NA}
    table = pd.DataFrame({"chip_id": chips, "filename": names}).assign(
        split="test", sensor=TEST_LABEL, month=-1, folder=TEST_LABELS_FOLDER, **facts,
        path=[files.tif_paths.get(name, "") for name in names], **dict.fromkeys(S3_COLUMNS, ""),
    )  # fmt: skip
    return table.astype({"size": "Int64", "cksum": "Int64"})


def _choose(listing: pd.DataFrame, subset: SubsetOptions) -> pd.DataFrame:
    wanted = listing["sensor"].isin(subset.sensors)
    if subset.split is not None:
        wanted &= listing["split"] == subset.split
    if subset.months is not None:
        wanted &= listing["month"].isin(subset.months) | (listing["month"] < 0)
    if subset.chips is not None:
        unknown = set(subset.chips) - set(listing["chip_id"])
        if unknown:
            raise BadInputError(
                f"acquisition.subset.chips: the metadata list no chip {min(unknown)!r}; check it."
            )
        wanted &= listing["chip_id"].isin(subset.chips)
    chosen = listing[wanted]
    if subset.first is not None:
        chips = chosen["chip_id"].drop_duplicates().head(subset.first)
        chosen = chosen[chosen["chip_id"].isin(chips)]
    return chosen


def _checked(address: str, filename: str) -> str:
    key = address.removeprefix("s3://")
    if address and (key == address or climbs(key) or not names_bucket(address)):
        raise BadInputError(
            f"The metadata give {address!r} as the address of {filename}, which is none in a "
            "bucket: use the metadata of a source that you trust."
        )
    return address
