"""Many files at once, each tried until it is right, and only then given its name."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import Source, WantedFile
from biomassters.chips.archive.layout import quarantine
from biomassters.chips.quality.verification import transfer_fault
from biomassters.chips.split_labels import label_file_fault
from biomassters.errors import BadInputError
from biomassters.io.checksum import posix_cksum
from biomassters.io.files import full_disk_explained
from biomassters.messages import first_line
from biomassters.workers.pool import Threads

COMPLETE = "complete"  # was right
FETCHED = "fetched"
REPAIRED = "repaired"  # was wrong before
MISSING = "missing"  # the source hasn't it
FAILED = "failed"
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What became of a file: one of the statuses above, and why, as the end of a sentence."""

    file: WantedFile
    status: str
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether the right file is here now."""
        return self.status not in (MISSING, FAILED)


def put(root: Path, file: WantedFile, data: bytes) -> Outcome:
    """Writes a file if its bytes are right, in place of a wrong one, which goes to quarantine.

    Nobody waits for the disk: a kill leaves all that was written, and a file that a power cut
    has shortened no longer has the size that the journal knows, so that the next run reads it.

    Returns:
        Fetched or repaired; failed where the bytes are wrong.

    Raises:
        BadInputError: If the disk is full.
    """
    if file.cksum is None:
        fault: str | None = label_file_fault(data, file.filename)
    else:
        # The checksum takes its time, and is only asked for where the size is right.
        cksum = posix_cksum(data) if len(data) == file.size else None
        fault = transfer_fault(file.size, file.cksum, len(data), cksum)
    if fault:
        return Outcome(file, FAILED, fault)
    temporary = file.path.with_name(f".{file.filename}.partial")
    full = (
        f"The disk is full while fetching {file.path}: free some space and run again, what has "
        "arrived so far is kept."
    )
    try:
        with full_disk_explained(full):
            temporary.write_bytes(data)
            wrong = file.path.exists()
            if wrong:
                quarantine(root, file.path)
            temporary.replace(file.path)
    finally:
        temporary.unlink(missing_ok=True)
    return Outcome(file, REPAIRED if wrong else FETCHED)


def fetch_all(
    root: Path,
    source: Source,
    files: Sequence[WantedFile],
    options: AcquisitionOptions,
    untried: bool = True,
) -> Iterator[Outcome]:
    """Fetches files, at least one, many at a time; yields each outcome as it comes.

    Args:
        root: Folder of the archive.
        source: Where they come from.
        files: Which.
        options: How many at once, tries and pauses.
        untried: Whether nothing has come from this source before, so that one that gives
            nothing must be wrong.

    Raises:
        BadInputError: If the source gives nothing at all, or stops giving, or the disk is full.
    """
    ended = Event()  # nobody waits for files any more: then none is tried again
    fetch = partial(_fetch, root=root, source=source, options=options, ended=ended)
    arrived = _probe(fetch, files, options) if untried else None
    if arrived is not None:
        yield arrived
        files = [file for file in files if file is not arrived.file]
    patience = 3 * options.parallel
    failed_in_a_row = 0
    for _, outcome in Threads(options.parallel, ended).each(fetch, files):
        failed_in_a_row = failed_in_a_row + 1 if outcome.status == FAILED else 0
        if failed_in_a_row > patience:
            raise BadInputError(
                f"{failed_in_a_row} files in a row could not be fetched, at last "
                f"{outcome.file.filename} ({outcome.reason}): check the network and run again, "
                "what has arrived so far is kept."
            )
        yield outcome


def _probe(
    fetch: "partial[Outcome]", files: Sequence[WantedFile], options: AcquisitionOptions
) -> Outcome | None:
    """Asks for up to three files before the many; the first that arrives."""
    few = options.model_copy(update={"retries": min(options.retries, 2)})
    reasons = []
    for number in sorted({0, len(files) // 2, len(files) - 1}):
        outcome = fetch(files[number], options=few)
        if outcome.good:
            return outcome
        reasons.append(outcome.reason)
    if len(files) < 3:
        return None  # too few to tell a wrong source from files that it lacks
    raise BadInputError(
        f"The source gives none of the files that were asked for first: {reasons[0]}; check "
        "acquisition.source, region and endpoint, and the network."
    )


def _fetch(
    file: WantedFile, root: Path, source: Source, options: AcquisitionOptions, ended: Event
) -> Outcome:
    """Fetches a file, again and again if need be."""
    reason = ""
    for tried in range(options.retries + 1):
        if tried:
            # At random, so that a server that was overrun isn't overrun again all at once.
            pause_s = min(options.backoff_s * 2 ** (tried - 1), _LONGEST_PAUSE_S)
            if ended.wait(pause_s * random.uniform(0.5, 1.0)):
                break
        try:
            data = source(file)
        except FileNotFoundError as error:
            return Outcome(file, MISSING, first_line(error))
        except PermissionError as error:
            return Outcome(file, FAILED, first_line(error))
        except BadInputError:
            raise
        except Exception as error:  # whatever a network library raises
            reason = first_line(error)
            continue
        outcome = put(root, file, data)
        if outcome.good:
            return outcome
        reason = f"the copy {outcome.reason}"
    return Outcome(file, FAILED, f"{reason}, {options.retries + 1} times")
