"""The whole of acquisition: what is missing or wrong is fetched, the rest is left alone.

``metadata.py`` says which files are wanted, ``fetching.py`` (from ``sources.py`` or
``zip_ranges.py``) and ``unpacking.py`` bring them.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

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
from biomassters.acquisition.metadata import bring_metadata, wanted_files
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import WantedFile, open_source
from biomassters.acquisition.unpacking import unpack_all
from biomassters.acquisition.zip_ranges import open_zips
from biomassters.chips.archive.layout import file_state
from biomassters.chips.archive.writer import is_generated
from biomassters.chips.split_labels import label_file_fault
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.checksum import file_cksum
from biomassters.io.files import require_space
from biomassters.io.row_journal import RowJournal
from biomassters.messages import readable_bytes
from biomassters.workers.pool import Threads

logger = logging.getLogger(__name__)

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


def acquire(root: Path, options: AcquisitionOptions, progress: bool = True) -> pd.DataFrame:
    """Brings an archive's files into a folder that holds its metadata.

    A file appears under its name only when its size and POSIX cksum are those of the metadata; a
    test label, which they don't list, when it decodes to a label.
    A run that was ended goes on where it was; a file that is wrong is moved to quarantine when
    the right one takes its place.

    Args:
        root: The archive's folder.
        options: Where from, and how much.
        progress: Whether to show bars.

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
            right, rest = _split_existing(wanted, journal, progress)
            outcomes = [Outcome(file, COMPLETE) for file in right]
            if rest:
                outcomes += _bring(root, right, rest, options, journal, progress)
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
    wanted: Sequence[WantedFile], journal: RowJournal, progress: bool
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
    with Progress("checking files", len(unread), shown=progress and bool(unread)) as bar:
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
    progress: bool,
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
    with Progress("fetching files", total, shown=progress) as bar:
        for number, outcome in enumerate(arriving, 1):
            if outcome.good:
                _note(journal, outcome.file)
            bar.note(f"{number:,} of {len(rest):,} files")
            bar.update(outcome.file.size)
            yield outcome


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
