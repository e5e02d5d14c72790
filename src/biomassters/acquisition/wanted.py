"""Which files are wanted, from the metadata and the chosen subset."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from biomassters.acquisition.options import SubsetOptions
from biomassters.chips.archive.layout import ArchiveFiles
from biomassters.chips.archive.metadata import LABEL, climbs, read_listing
from biomassters.errors import BadInputError
from biomassters.io.bucket_names import names_bucket


class WantedFile(NamedTuple):
    """A file that the archive should have.

    Attributes:
        filename: Its name.
        chip_id: Its chip.
        folder: Folder that it belongs into.
        size: Bytes.
        cksum: POSIX cksum.
        address: Its ``s3://`` address, ``""`` where the metadata have none.
        path: Where it lies or will lie.
    """

    filename: str
    chip_id: str
    folder: str
    size: int
    cksum: int
    address: str
    path: Path


def wanted_files(root: Path, subset: SubsetOptions, region: str) -> list[WantedFile]:
    """Files of a subset.

    Args:
        root: The archive's folder, with its metadata.
        subset: Which files.
        region: Bucket of the addresses: ``"us"``, ``"eu"`` or ``"as"``.

    Returns:
        The files by chip, sensor and month.

    Raises:
        BadInputError: If the metadata are missing or wrong, lack a size or checksum, lead out of
            the folder, or hold no such file.
    """
    files = ArchiveFiles.find(root)
    with_labels = LABEL in subset.sensors and subset.split != "test"
    chosen = _choose(read_listing(files, with_labels), subset)
    if chosen.empty:
        raise BadInputError(
            f"acquisition.subset: the metadata in {root} list no such file; widen the subset."
        )
    _require_facts(root, chosen)
    address = f"s3path_{region}"
    columns = ("filename", "chip_id", "folder", "size", "cksum", address, "path")
    rows = zip(*(chosen[name].tolist() for name in columns), strict=True)
    return [
        WantedFile(
            name, chip, folder, size, cksum, _checked(s3, name), _path(root, path, folder, name)
        )
        for name, chip, folder, size, cksum, s3, path in rows
    ]


def _choose(listing: pd.DataFrame, subset: SubsetOptions) -> pd.DataFrame:
    wanted = listing["sensor"].isin(subset.sensors)
    if subset.split is not None:
        wanted &= listing["split"] == subset.split
    if subset.months is not None:
        wanted &= listing["month"].isin(subset.months) | (listing["sensor"] == LABEL)
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


def _require_facts(root: Path, chosen: pd.DataFrame) -> None:
    for name in ("size", "cksum"):
        lacking = chosen.loc[chosen[name].isna(), "filename"]
        if len(lacking):
            raise BadInputError(
                f"The metadata in {root} give no valid {name} for {lacking.iloc[0]} "
                f"({len(lacking)} such rows), without which a copy can't be proven right: fetch "
                "the metadata again."
            )


def _checked(address: str, filename: str) -> str:
    key = address.removeprefix("s3://")
    if address and (key == address or climbs(key) or not names_bucket(address)):
        raise BadInputError(
            f"The metadata give {address!r} as the address of {filename}, which is none in a "
            "bucket: use the metadata of a source that you trust."
        )
    return address


def _path(root: Path, path: str, folder: str, filename: str) -> Path:
    return Path(path) if path else root / folder / filename
