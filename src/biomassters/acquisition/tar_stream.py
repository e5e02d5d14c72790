"""Files out of tars that are read as a stream: nothing but the wanted files is stored."""

import gzip
import io
import tarfile
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from biomassters.acquisition.joined_parts import JoinedParts
from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import open_stream
from biomassters.acquisition.wanted import WantedFile
from biomassters.chips.archive.metadata import climbs
from biomassters.errors import BadInputError

_GZIP = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 20


class Member(NamedTuple):
    """A wanted file in the stream.

    Attributes:
        file: Which.
        data: Its bytes, not yet checked.
        end: Place in the stream behind it, from where a later run may go on; 0 in a compressed
            one.
    """

    file: WantedFile
    data: bytes
    end: int


class TarStream:
    """Tar files one after another, or the pieces of a split one, as one stream.

    Args:
        options: Names the parts.

    Raises:
        BadInputError: If a part is missing.
    """

    def __init__(self, options: AcquisitionOptions) -> None:
        self._paths = [path for part in options.tar_parts for path in _expand(part)]
        try:
            self._parts = JoinedParts(self._paths, lambda path: open_stream(path, options))
        except BadInputError:
            raise
        except Exception as error:  # whatever a network library raises
            reason = str(error).splitlines()[0]
            raise BadInputError(
                f"acquisition.tar_parts: a part can't be opened ({reason}): check the names."
            ) from error
        self.identity = [
            [PurePosixPath(path).name, size]
            for path, size in zip(self._paths, self._parts.sizes, strict=True)
        ]
        self._stream = io.BufferedReader(self._parts, _BUFFER_BYTES)
        self.compressed = self._stream.read(2) == _GZIP

    def members(
        self, wanted: Sequence[WantedFile], start: int = 0, stop: int | None = None
    ) -> Iterator[Member]:
        """Reads the wanted files out of the stream; ends when all were seen.

        Args:
            wanted: Which.
            start: Place to begin at, the ``end`` of an earlier member.
            stop: Place to end at, or None.

        Raises:
            BadInputError: If a member leads out of the archive's folder or is a link, or the
                stream is no tar.
        """
        left = {file.filename: file for file in wanted}
        try:
            with tarfile.open(fileobj=self._open(start), mode="r:", ignore_zeros=True) as tar:
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
                        yield Member(file, content.read(), end)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
            raise BadInputError(
                f"acquisition.tar_parts: {self._paths[0]} and what follows is no tar ({error}): "
                "check the names, their order and whether all parts are there."
            ) from error

    def close(self) -> None:
        """Closes the part that is open."""
        self._stream.close()

    def _open(self, start: int) -> Any:
        self._stream.seek(start)
        return gzip.GzipFile(fileobj=self._stream) if self.compressed else self._stream


def _expand(part: str) -> list[str]:
    if "://" in part:
        return [part]
    found = sorted(glob(part))  # noqa: PTH207 (an absolute pattern)
    if not found:
        raise BadInputError(f"acquisition.tar_parts: there is no {part}; check the name.")
    return found


def _refuse(member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise BadInputError(
            f"The tar holds {member.name!r}, a link, which may lead out of the archive's folder: "
            "use a source that you trust."
        )
    if climbs(member.name):
        raise BadInputError(
            f"The tar holds {member.name!r}, which leads out of the archive's folder: use a source "
            "that you trust."
        )
