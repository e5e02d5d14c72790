"""The wanted files of a tar stream, checked and written while the stream goes on."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from biomassters.acquisition.arrival import FAILED, GOOD, MISSING, Outcome, fault_of
from biomassters.acquisition.fetching import put_or_refuse
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.tar_stream import Member, TarStream
from biomassters.acquisition.wanted import WantedFile
from biomassters.io.row_journal import RowJournal

_PLACE = "place in the tar stream"
_WRITERS = 8
_NOTE_EVERY = 64


def unpack_all(
    root: Path, files: Sequence[WantedFile], options: AcquisitionOptions, journal: RowJournal
) -> Iterator[Outcome]:
    """Unpacks files, first from where an earlier run stopped, then from before there.

    Args:
        root: Folder of the archive.
        files: Which.
        options: Names the parts.
        journal: Keeps the place in the stream.

    Yields:
        What became of each.

    Raises:
        BadInputError: See ``TarStream``; or the disk is full.
    """
    stream = TarStream(options)
    left = {file.filename: file for file in files}
    start = _earlier_place(journal, stream)
    passes = [(start, None), (0, start)] if start else [(0, None)]
    try:
        for begin, stop in passes:
            for outcome, end in _written(root, stream.members([*left.values()], begin, stop)):
                left.pop(outcome.file.filename)
                yield outcome
                if end and stop is None and outcome.status in GOOD and len(left) % _NOTE_EVERY == 0:
                    journal.append(_PLACE, [stream.identity, end])
    finally:
        stream.close()
    for file in left.values():
        yield Outcome(file, MISSING, "is in none of the tar's parts")


def _earlier_place(journal: RowJournal, stream: TarStream) -> int:
    identity, end = journal.entries.get(_PLACE, (None, 0))
    return int(end) if identity == stream.identity and not stream.compressed else 0


def _written(root: Path, members: Iterator[Member]) -> Iterator[tuple[Outcome, int]]:
    """Checks and writes a few members at a time, in their order."""
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="tar writer") as pool:
        waiting: deque[tuple[Future[Outcome], int]] = deque()
        for member in members:
            if len(waiting) == _WRITERS:
                future, end = waiting.popleft()
                yield future.result(), end
            waiting.append((pool.submit(_write, root, member), member.end))
        for future, end in waiting:
            yield future.result(), end


def _write(root: Path, member: Member) -> Outcome:
    fault = fault_of(member.file, member.data)
    if fault is not None:
        return Outcome(member.file, FAILED, f"the copy in the tar {fault}")
    return Outcome(member.file, put_or_refuse(root, member.file, member.data))
