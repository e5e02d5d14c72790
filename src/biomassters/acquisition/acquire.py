"""The whole of acquisition: what is missing or wrong is fetched, the rest is left alone.

The archive's metadata and the chosen subset say which files are wanted; ``fetching.py`` (from
``sources.py`` or ``zip_ranges.py``) and ``unpacking.py`` bring them.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.acquisition.fetching import (
    COMPLETE,
    FAILED,
    FETCHED,
    MISSING,
    REPAIRED,
    Outcome,
    fetch_all,
)
from biomassters.acquisition.options import AcquisitionOptions, SubsetOptions
from biomassters.acquisition.sources import WantedFile, find_mirror, open_source, open_stream
from biomassters.acquisition.unpacking import unpack_all
from biomassters.acquisition.zip_ranges import open_zips
from biomassters.chips.archive.layout import S3_COLUMNS, ArchiveFiles, file_state, label_name
from biomassters.chips.archive.metadata import (
    FEATURES_METADATA,
    LABEL,
    LABELS_METADATA,
    climbs,
    find_metadata,
    read_listing,
)
from biomassters.chips.archive.writer import is_generated
from biomassters.chips.split_labels import TEST_LABELS_FOLDER, label_file_fault
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.checksum import file_cksum
from biomassters.io.files import RowJournal, require_space
from biomassters.io.storage import names_bucket
from biomassters.messages import first_line, readable_bytes
from biomassters.workers.pool import Threads

logger = logging.getLogger(__name__)

TEST_LABEL = "test_label"  # a wanted file's kind, beside the sensors and LABEL
_JOURNAL = Path(".acquisition", "journal.jsonl")
_COLUMNS = ("filename", "chip_id", "folder", "size", "status", "reason")
_MEANING = {
    COMPLETE: "right already",
    FETCHED: "right now",
    REPAIRED: "was wrong, right now",
    MISSING: "not at the source",
    FAILED: "not fetched",
}
_LISTED = 10


def acquire(root: Path, options: AcquisitionOptions) -> pd.DataFrame:
    """Brings an archive's files into a folder that holds its metadata.

    A file appears under its name only when its size and POSIX cksum are those of the metadata; a
    test label, which they don't list, when it decodes to a label.
    A run that was ended goes on where it was; a file that is wrong is moved to quarantine when
    the right one takes its place.

    Returns:
        One row a wanted file: filename, chip_id, folder, size, status (``"complete"``,
        ``"fetched"``, ``"repaired"``, ``"missing"``, ``"failed"``), reason.

    Raises:
        BadInputError: See the modules of this package; before anything is fetched if possible.
    """
    if is_generated(root):
        raise BadInputError(
            f"{root} holds a simulated archive: choose another folder with --params raw_root=… or "
            "--env biomassters."
        )
    bring_metadata(root, options)
    wanted = wanted_files(root, options.subset, options.region)
    try:
        with RowJournal(root / _JOURNAL, f"fetching into {root}") as journal:
            right, rest = _split_existing(wanted, journal)
            outcomes = [Outcome(file, COMPLETE) for file in right]
            if rest:
                outcomes += _bring(root, right, rest, options, journal)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "The download was stopped: what has arrived is kept. Run the same command again to "
            "continue."
        ) from None
    rows = [
        (*(getattr(outcome.file, name) for name in _COLUMNS[:4]), outcome.status, outcome.reason)
        for outcome in outcomes
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    return table.sort_values(["chip_id", "filename"], ignore_index=True)


def _split_existing(
    wanted: Sequence[WantedFile], journal: RowJournal
) -> tuple[list[WantedFile], list[WantedFile]]:
    """Divides files into those that are right and those to be fetched.

    A file is read once; as long as its size and time stay, the journal vouches for it.
    """
    right, unread = set(), []
    for file in wanted:
        state = file_state(str(file.path))
        if state is None:
            continue
        if journal.entries.get(file.filename) == [*state, file.cksum]:
            right.add(file.filename)
        elif file.cksum is None or state[0] == file.size:
            unread.append(file)
    with Progress("checking files", len(unread), shown=bool(unread)) as bar:
        for number, is_right in Threads().each(_is_right, unread):
            bar.update()
            if is_right:
                _note(journal, unread[number])
                right.add(unread[number].filename)
    return (
        [file for file in wanted if file.filename in right],
        [file for file in wanted if file.filename not in right],
    )


def _is_right(file: WantedFile) -> bool:
    try:
        if file.cksum is None:
            return not label_file_fault(file.path.read_bytes(), file.filename)
        return file_cksum(file.path) == file.cksum
    except OSError:
        return False


def _note(journal: RowJournal, file: WantedFile) -> None:
    """Notes that a file on the disk is right: while size, time and checksum stay as they are."""
    state = file_state(str(file.path))
    if state is not None:
        journal.append(file.filename, [*state, file.cksum])


def _bring(
    root: Path,
    right: Sequence[WantedFile],
    rest: Sequence[WantedFile],
    options: AcquisitionOptions,
    journal: RowJournal,
) -> Iterator[Outcome]:
    """Fetches or unpacks the rest; the journal and the bar follow."""
    for folder in {file.path.parent for file in rest}:
        folder.mkdir(parents=True, exist_ok=True)
    total = sum(file.size for file in rest)
    require_space(root, total, f"Fetching {len(rest):,} files")
    here = f"{len(right):,} files are here and right, " if right else ""
    logger.info("%s%s files (%s) to fetch.", here, f"{len(rest):,}", readable_bytes(total))
    if options.tar_parts:
        arriving = unpack_all(root, rest, options, journal)
    else:
        source = open_zips(options) if options.zips else open_source(options)
        arriving = fetch_all(root, source, rest, options, untried=not right)
    with Progress("fetching files", total) as bar:
        for number, outcome in enumerate(arriving, 1):
            if outcome.good:
                _note(journal, outcome.file)
            bar.note(f"{number:,} of {len(rest):,} files")
            bar.update(outcome.file.size)
            yield outcome


# ---- Which files are wanted


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
            f"{address} can't be read ({first_line(error)[:200]}): check "
            f"acquisition.source, or copy {kind}.csv into the archive's folder."
        ) from error


def wanted_files(root: Path, subset: SubsetOptions, region: str) -> list[WantedFile]:
    """Files of a subset, by chip, sensor and month, of the archive in ``root``.

    ``region`` is the bucket of the addresses: ``"us"``, ``"eu"`` or ``"as"``.

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


# ---- What became of them


def summarise(table: pd.DataFrame) -> str:
    """The table of ``acquire`` as lines: files and bytes by status, and what went wrong."""
    lines = [f"{'status':<10}{'files':>10}{'size':>10}  meaning"]
    for status, meaning in _MEANING.items():
        chosen = table[table["status"] == status]
        size = readable_bytes(chosen["size"].sum())
        lines.append(f"{status:<10}{len(chosen):>10,}{size:>10}  {meaning}")
    wrong = _wrong(table)
    lines += [f"  {row.filename}: {row.reason}" for row in wrong.head(_LISTED).itertuples()]
    if len(wrong) > _LISTED:
        lines.append(f"  … and {len(wrong) - _LISTED:,} more, see the acquisition table")
    return "\n".join(lines)


def require_complete(table: pd.DataFrame) -> None:
    """Refuses to call an acquisition done that isn't.

    Raises:
        BadInputError: If a file is missing or failed.
    """
    wrong = _wrong(table)
    if len(wrong):
        first = wrong.iloc[0]
        raise BadInputError(
            f"{len(wrong):,} of {len(table):,} files are not right, the first is {first.filename} "
            f"({first.reason}): run again to fetch these alone, or choose another source."
        )


def _wrong(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"].isin([MISSING, FAILED])]
