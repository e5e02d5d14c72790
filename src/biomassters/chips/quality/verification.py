"""Every file of an archive against its metadata: a table; damage is moved aside on request."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.quarantine import FOLDER, quarantine
from biomassters.chips.quality.file_check import DAMAGED, ListedFile, transfer_fault
from biomassters.chips.quality.listed_chips import CheckChip, ChipListing, chip_listings
from biomassters.io.row_journal import RowJournal
from biomassters.io.storage import Place
from biomassters.options import Options
from biomassters.progress_bar import Progress
from biomassters.workers.pool import Threads, Workers

logger = logging.getLogger(__name__)

JOURNAL_NAME = "verification.jsonl"
_FRACTIONS = ("nan_fraction", "nodata_fraction", "zero_fraction", "constant_block_fraction")
_COUNTS = ("expected_size", "size", "expected_cksum", "cksum")
_TYPES = dict.fromkeys(_COUNTS, "Int64") | dict.fromkeys(_FRACTIONS, "float64")
TABLE_COLUMNS = (
    *("chip_id", "split", "sensor", "month", "filename"),
    *(*_COUNTS, *_FRACTIONS),
    *("status", "reason", "quarantined"),
)


class VerificationOptions(Options):
    """What is done about files that are not as the metadata say."""

    quarantine: bool = Field(
        False,
        description="Move files whose size or checksum is wrong into the archive's folder "
        ".quarantine, as acquisition does when it replaces them; nothing is deleted, and on "
        "object storage nothing is moved",
    )


def verify_archive(
    archive: Archive,
    work: Path,
    options: VerificationOptions,
    workers: Workers | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Reads every file of an archive and compares it with the metadata.

    Size and POSIX cksum must be those of the metadata; the file must decode to the right bands,
    type and size, without NaN. An interrupted run is continued with the first chip that wasn't
    finished; after a complete one everything is read again.

    Args:
        archive: The archive.
        work: Folder for the journal of an unfinished run.
        options: What to do about damage.
        workers: Who reads; None takes threads. The table doesn't depend on it.
        progress: Whether to show a bar.

    Returns:
        One row a listed file, by chip, sensor and month: chip_id, split, sensor, month,
        filename; expected_size, size in bytes; expected_cksum, cksum; nan_, nodata_ (−9999),
        zero_ and constant_block_fraction; status (``"right"``, ``"missing"``, ``"damaged"``,
        ``"no checksum"``), reason (end of a sentence), quarantined. What can't be known is NA.

    Raises:
        BadInputError: If the metadata are missing or wrong, or another run verifies it.
    """
    chips = chip_listings(archive)
    with RowJournal(work / JOURNAL_NAME, f"verifying {archive.root}") as journal:
        _check_missing(chips, journal, CheckChip(archive.shape), workers or Threads(), progress)
        table = pd.DataFrame(_rows(chips, journal, archive.root, options))
        table = table.astype(_TYPES)
        journal.complete()
    logger.info("%s", summary_line(table))
    return table[list(TABLE_COLUMNS)]


def summary_line(table: pd.DataFrame) -> str:
    """How many files are right, and the first that isn't."""
    counts = Counter(table["status"])
    line = f"{len(table)} files checked: " + ", ".join(
        f"{n} {status}" for status, n in counts.items()
    )
    wrong = table[table["status"] == DAMAGED]
    if len(wrong):
        line += "; " + "; ".join(
            f"{row.filename} {row.reason}" for row in wrong.head(3).itertuples()
        )
    return line + "."


def known_damage(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Reasons by chip and name of the damaged files."""
    damage: dict[str, dict[str, str]] = {}
    rows = table.loc[table["status"] == DAMAGED, ["chip_id", "filename", "reason"]]
    for chip_id, filename, reason in rows.itertuples(index=False):
        damage.setdefault(chip_id, {})[filename] = reason
    return damage


def _check_missing(
    chips: Sequence[ChipListing],
    journal: RowJournal,
    task: CheckChip,
    workers: Workers,
    progress: bool,
) -> None:
    """Checks the chips that the journal doesn't know, or knows in another state."""
    signatures = {chip.chip_id: chip.signature() for chip in chips}
    todo = [
        chip
        for chip in chips
        if journal.entries.get(chip.chip_id, {}).get("signature") != signatures[chip.chip_id]
    ]
    if len(todo) < len(chips):
        logger.info("Verification continued: %d of %d chips left.", len(todo), len(chips))
    with Progress("checking files", len(todo), shown=progress) as bar:
        for number, rows in workers.each(task, todo):
            chip_id = todo[number].chip_id
            journal.append(chip_id, {"signature": signatures[chip_id], "rows": rows})
            bar.update()


def _rows(
    chips: Sequence[ChipListing], journal: RowJournal, root: Place, options: VerificationOptions
) -> Iterator[dict[str, Any]]:
    """Rows of the table; what is wrong is moved aside on the way, if that is asked for."""
    for chip in chips:
        for file, facts in zip(chip.files, journal.entries[chip.chip_id]["rows"], strict=True):
            head: dict[str, Any] = {"chip_id": chip.chip_id, "split": chip.split}
            head |= {"sensor": file.sensor, "month": file.month, "filename": file.filename}
            head |= {"expected_size": file.size, "expected_cksum": file.cksum}
            yield {**head, **facts, "quarantined": _set_aside(file, facts, root, options)}


def _set_aside(
    file: ListedFile, facts: dict[str, Any], root: Place, options: VerificationOptions
) -> bool:
    """Moves a file whose bytes are wrong; True if it is in quarantine then.

    Bytes that are as the metadata say stay, even if they don't decode: a new copy would be
    the same.
    """
    # On object storage nothing is moved: it would be a copy and a deletion of shared data.
    if not file.path or facts["status"] != DAMAGED or not isinstance(root, Path):
        return False
    if Path(file.path).parent == root / FOLDER:
        return True
    size, cksum = facts["size"], facts["cksum"]
    wrong = size is None or transfer_fault(file.size, file.cksum, size, cksum) is not None
    return options.quarantine and wrong and quarantine(root, Path(file.path))
