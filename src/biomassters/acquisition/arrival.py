"""One file arrives: checked in memory, and only then given its name."""

from dataclasses import dataclass
from pathlib import Path

from biomassters.acquisition.wanted import WantedFile
from biomassters.chips.archive.quarantine import quarantine
from biomassters.chips.quality.verification import transfer_fault
from biomassters.io.checksum import posix_cksum

COMPLETE, FETCHED, REPAIRED = "complete", "fetched", "repaired"
MISSING, FAILED = "missing", "failed"
GOOD = (COMPLETE, FETCHED, REPAIRED)


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        file: The file.
        status: ``"complete"`` (was right), ``"fetched"``, ``"repaired"`` (was wrong before),
            ``"missing"`` (the source hasn't it) or ``"failed"``.
        reason: Why, as the end of a sentence, or ``""``.
    """

    file: WantedFile
    status: str
    reason: str = ""


def fault_of(file: WantedFile, data: bytes) -> str | None:
    """What is wrong with a file's bytes, or None."""
    size = len(data)
    return transfer_fault(file.size, None, size, None) or transfer_fault(
        None, file.cksum, size, posix_cksum(data)
    )


def put(root: Path, file: WantedFile, data: bytes) -> str:
    """Writes a file whose bytes are right.

    Nobody waits for the disk: a kill leaves all that was written, and a file that a power cut
    has shortened no longer has the size that the journal knows, so that the next run reads it.

    Args:
        root: Folder of the archive, whose quarantine takes a wrong file of the same name.
        file: The file.
        data: Its bytes.

    Returns:
        ``"fetched"``, or ``"repaired"`` where it takes the place of a wrong one.
    """
    partial = file.path.with_name(f".{file.filename}.partial")
    try:
        partial.write_bytes(data)
        wrong = file.path.exists()
        if wrong:
            quarantine(root, file.path)
        partial.replace(file.path)
    finally:
        partial.unlink(missing_ok=True)
    return REPAIRED if wrong else FETCHED
