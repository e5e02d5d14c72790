"""Many files at once, each tried until it is right."""

import errno
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

from biomassters.acquisition.arrival import FAILED, MISSING, Outcome, fault_of, put
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import Source
from biomassters.acquisition.wanted import WantedFile
from biomassters.errors import BadInputError
from biomassters.workers.pool import Threads

_LONGEST_PAUSE_S = 60.0


class Fetch:
    """Fetches one file; many threads call it.

    Args:
        root: Folder of the archive.
        source: Where files come from.
        options: Tries and pauses.
        ended: Set when nobody waits for files any more: then none is tried again.
    """

    def __init__(
        self, root: Path, source: Source, options: AcquisitionOptions, ended: Event
    ) -> None:
        self._root, self._source, self._options, self._ended = root, source, options, ended

    def __call__(self, file: WantedFile) -> Outcome:
        """Fetches a file, again and again if need be.

        Raises:
            BadInputError: If the disk is full.
        """
        reason = ""
        for tried in range(self._options.retries + 1):
            if tried and self._ended.wait(self._pause_s(tried)):
                break
            try:
                data = self._source.read(file)
            except FileNotFoundError as error:
                return Outcome(file, MISSING, _plain(error))
            except PermissionError as error:
                return Outcome(file, FAILED, _plain(error))
            except BadInputError:
                raise
            except Exception as error:  # whatever a network library raises
                reason = _plain(error)
                continue
            fault = fault_of(file, data)
            if fault is None:
                return Outcome(file, put_or_refuse(self._root, file, data))
            reason = f"the copy {fault}"
        return Outcome(file, FAILED, f"{reason}, {self._options.retries + 1} times")

    def _pause_s(self, tried: int) -> float:
        # Spread, so that a server that was overrun isn't overrun again all at once.
        pause = min(self._options.backoff_s * 2 ** (tried - 1), _LONGEST_PAUSE_S)
        return pause * random.uniform(0.5, 1.0)


def put_or_refuse(root: Path, file: WantedFile, data: bytes) -> str:
    """``put``, with a sentence for a full disk."""
    try:
        return put(root, file, data)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInputError(
                f"The disk is full while fetching {file.path}: free some space and run again, what "
                "has arrived so far is kept."
            ) from error
        raise


def fetch_all(
    root: Path,
    source: Source,
    files: Sequence[WantedFile],
    options: AcquisitionOptions,
    untried: bool = True,
) -> Iterator[Outcome]:
    """Fetches files, many at a time.

    Args:
        root: Folder of the archive.
        source: Where they come from.
        files: Which; at least one.
        options: How many at once, tries and pauses.
        untried: Whether nothing has come from this source before, so that one that gives
            nothing must be wrong.

    Yields:
        What became of each, in the order of completion.

    Raises:
        BadInputError: If the source gives nothing at all, or stops giving, or the disk is full.
    """
    arrived = _probe(root, source, files, options) if untried else None
    if arrived is not None:
        yield arrived
        files = [file for file in files if file is not arrived.file]
    patience = 3 * options.parallel
    failed_in_a_row = 0
    ended = Event()
    fetch = Fetch(root, source, options, ended)
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
    root: Path, source: Source, files: Sequence[WantedFile], options: AcquisitionOptions
) -> Outcome | None:
    """Asks for up to three files before the many; the first that arrives."""
    few = options.model_copy(update={"retries": min(options.retries, 2)})
    fetch = Fetch(root, source, few, Event())
    reasons = []
    for number in sorted({0, len(files) // 2, len(files) - 1}):
        outcome = fetch(files[number])
        if outcome.status not in (FAILED, MISSING):
            return outcome
        reasons.append(outcome.reason)
    if len(files) < 3:
        return None  # too few to tell a wrong source from files that it lacks
    raise BadInputError(
        f"The source gives none of the files that were asked for first: {reasons[0]}; check "
        "acquisition.source, region and endpoint, and the network."
    )


def _plain(error: BaseException) -> str:
    """The first line of an error; libraries append pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" :.")
