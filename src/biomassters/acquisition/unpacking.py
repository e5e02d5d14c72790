"""The wanted files out of tars, which are read as a stream: nothing else is stored.

The parts may be tars one after another or the pieces that one was split into. Members are checked
and written while the stream goes on, and the journal keeps the place behind the last one.
"""

import gzip
import io
import tarfile
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from glob import glob
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from biomassters.acquisition.fetching import FAILED, MISSING, Outcome, put
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import WantedFile, open_stream
from biomassters.chips.archive.metadata import climbs
from biomassters.errors import BadInputError
from biomassters.io.files import RowJournal
from biomassters.messages import first_line

_PLACE = "place in the tar stream"
_WRITERS = 8
_NOTE_EVERY = 64
_GZIP = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 20


def unpack_all(
    root: Path, files: Sequence[WantedFile], options: AcquisitionOptions, journal: RowJournal
) -> Iterator[Outcome]:
    """Unpacks files, first from where an earlier run stopped, then from before there.

    The journal keeps the place in the stream of the parts that the options name.

    Raises:
        BadInputError: If a part is missing, a member leads out of the archive's folder or is a
            link, the stream is no tar, or the disk is full.
    """
    stream = _TarStream(options)
    left = {file.filename: file for file in files}
    identity, start = journal.entries.get(_PLACE, (None, 0))
    if identity != stream.identity or stream.compressed:
        start = 0
    passes = [(start, None), (0, start)] if start else [(0, None)]
    try:
        for begin, stop in passes:
            for outcome, end in _written(root, stream.members([*left.values()], begin, stop)):
                left.pop(outcome.file.filename)
                yield outcome
                if end and stop is None and outcome.good and len(left) % _NOTE_EVERY == 0:
                    journal.append(_PLACE, [stream.identity, end])
    finally:
        stream.close()
    for file in left.values():
        yield Outcome(file, MISSING, "is in none of the tar's parts")


class _Member(NamedTuple):
    file: WantedFile
    data: bytes
    end: int  # place behind it, from where a later run may go on; 0 in a compressed stream


def _written(root: Path, members: Iterator[_Member]) -> Iterator[tuple[Outcome, int]]:
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


def _write(root: Path, member: _Member) -> Outcome:
    outcome = put(root, member.file, member.data)
    if outcome.good:
        return outcome
    return Outcome(member.file, FAILED, f"the copy in the tar {outcome.reason}")


class _TarStream:
    def __init__(self, options: AcquisitionOptions) -> None:
        self._paths = [path for part in options.tar_parts for path in _expand(part)]
        try:
            parts = _JoinedParts(self._paths, lambda path: open_stream(path, options))
        except BadInputError:
            raise
        except Exception as error:  # whatever a network library raises
            raise BadInputError(
                f"acquisition.tar_parts: a part can't be opened ({first_line(error)}): check the "
                "names."
            ) from error
        names = (PurePosixPath(path).name for path in self._paths)
        self.identity = [[name, size] for name, size in zip(names, parts.sizes, strict=True)]
        self._stream = io.BufferedReader(parts, _BUFFER_BYTES)
        self.compressed = self._stream.read(2) == _GZIP

    def members(
        self, wanted: Sequence[WantedFile], start: int, stop: int | None
    ) -> Iterator[_Member]:
        """The wanted files from a place, an earlier member's end, to another; ends with the last.

        Raises:
            BadInputError: See ``unpack_all``.
        """
        left = {file.filename: file for file in wanted}
        self._stream.seek(start)
        stream: Any = gzip.GzipFile(fileobj=self._stream) if self.compressed else self._stream
        try:
            with tarfile.open(fileobj=stream, mode="r:", ignore_zeros=True) as tar:
                while left and (member := tar.next()) is not None:
                    if stop is not None and member.offset >= stop:
                        return
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    _refuse(member)
                    file = left.pop(PurePosixPath(member.name).name, None)
                    if file is not None and member.isreg():
                        content = tar.extractfile(member)
                        assert content is not None
                        end = 0 if self.compressed else tar.offset
                        yield _Member(file, content.read(), end)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
            raise BadInputError(
                f"acquisition.tar_parts: {self._paths[0]} and what follows is no tar ({error}): "
                "check the names, their order and whether all parts are there."
            ) from error

    def close(self) -> None:
        self._stream.close()


def _expand(part: str) -> list[str]:
    if "://" in part:
        return [part]
    found = sorted(glob(part))  # noqa: PTH207 (an absolute pattern)
    if not found:
        raise BadInputError(f"acquisition.tar_parts: there is no {part}; check the name.")
    return found


def _refuse(member: tarfile.TarInfo) -> None:
    fault = ""
    if member.issym() or member.islnk():
        fault = "a link, which may lead out of the archive's folder"
    elif climbs(member.name):
        fault = "which leads out of the archive's folder"
    if fault:
        raise BadInputError(f"The tar holds {member.name!r}, {fault}: use a source that you trust.")


class _JoinedParts(io.RawIOBase):
    """Several files read as one, seekable; only one is open at a time."""

    def __init__(self, paths: Sequence[str], open_part: Callable[[str], Any]) -> None:
        super().__init__()
        self._paths, self._open_part = paths, open_part
        self._part: Any = None
        self._number = -1
        self._position = 0
        self.sizes = [self._opened(n).seek(0, io.SEEK_END) for n in range(len(paths))]
        self._starts = [0, *accumulate(self.sizes)]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer up to the end of a part."""
        number = bisect_right(self._starts, self._position) - 1
        if number >= len(self._paths):
            return 0
        part = self._opened(number)
        offset = self._position - self._starts[number]
        part.seek(offset)
        data = part.read(min(len(buffer), self.sizes[number] - offset))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None
        super().close()

    def _opened(self, number: int) -> Any:
        if number != self._number:
            if self._part is not None:
                self._part.close()
            self._part = self._open_part(self._paths[number])
            self._number = number
        return self._part
