"""The whole of acquisition: what is missing or wrong is fetched, the rest is left alone."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from biomassters.acquisition.arrival import COMPLETE, GOOD, Outcome
from biomassters.acquisition.existing import note, split_existing
from biomassters.acquisition.fetching import fetch_all
from biomassters.acquisition.metadata import bring_metadata
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import open_source
from biomassters.acquisition.summary import readable_bytes
from biomassters.acquisition.unpacking import unpack_all
from biomassters.acquisition.wanted import WantedFile, wanted_files
from biomassters.chips.archive.writer import is_generated
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.files import require_space
from biomassters.io.row_journal import RowJournal

logger = logging.getLogger(__name__)

FOLDER = ".acquisition"
_COLUMNS = ("filename", "chip_id", "folder", "size", "status", "reason")


def acquire(root: Path, options: AcquisitionOptions, progress: bool = True) -> pd.DataFrame:
    """Brings an archive's files into a folder that holds its metadata.

    A file appears under its name only when its size and POSIX cksum are those of the metadata.
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
        return _table(_acquire(root, wanted, options, progress))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "The download was stopped: what has arrived is kept. Run the same command again to "
            "continue."
        ) from None


def _acquire(
    root: Path, wanted: Sequence[WantedFile], options: AcquisitionOptions, progress: bool
) -> list[Outcome]:
    with RowJournal(root / FOLDER / "journal.jsonl", f"fetching into {root}") as journal:
        right, rest = split_existing(wanted, journal, progress)
        outcomes = [Outcome(file, COMPLETE) for file in right]
        if rest:
            _check_space(root, rest)
            _announce(right, rest)
            outcomes += _bring(root, rest, options, journal, untried=not right, progress=progress)
    return outcomes


def _announce(right: Sequence[WantedFile], rest: Sequence[WantedFile]) -> None:
    here = f"{len(right):,} files are here and right, " if right else ""
    size = readable_bytes(sum(file.size for file in rest))
    logger.info("%s%s files (%s) to fetch.", here, f"{len(rest):,}", size)


def _check_space(root: Path, files: Sequence[WantedFile]) -> None:
    for folder in {file.path.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size for file in files)
    require_space(root, needed, f"Fetching {len(files):,} files")


def _bring(
    root: Path,
    files: Sequence[WantedFile],
    options: AcquisitionOptions,
    journal: RowJournal,
    untried: bool,
    progress: bool,
) -> Iterator[Outcome]:
    """Fetches or unpacks; the journal and the bar follow."""
    if options.tar_parts:
        arriving = unpack_all(root, files, options, journal)
    else:
        arriving = fetch_all(root, open_source(options), files, options, untried)
    total = sum(file.size for file in files)
    with Progress("fetching files", total, shown=progress) as bar:
        for number, outcome in enumerate(arriving, 1):
            if outcome.status in GOOD:
                note(journal, outcome.file)
            bar.note(f"{number:,} of {len(files):,} files")
            bar.update(outcome.file.size)
            yield outcome


def _table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    rows = [
        (*(getattr(outcome.file, name) for name in _COLUMNS[:4]), outcome.status, outcome.reason)
        for outcome in outcomes
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    return table.sort_values(["chip_id", "filename"], ignore_index=True)
