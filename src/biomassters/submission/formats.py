"""Archives written member by member, with the same bytes for the same members.

Time, owner and permissions of a member say nothing about a prediction, so they are fixed.
"""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from biomassters.errors import BadInputError
from biomassters.io.files import open_regular

AddMember = Callable[[str, bytes], None]
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")

# Maps of floats are almost incompressible: higher levels cost time and save nothing.
_COMPRESSION_LEVEL = 1
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip can express
_READABLE_BY_ALL = 0o644
_ENCRYPTED = 1  # bit of a zip member's flags
_ZIP_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_MOST_HEADER_BYTES = 2**20


def archive_suffix(path: Path) -> str:
    """The suffix that decides a submission's format.

    Raises:
        BadInputError: It is none of ``SUFFIXES``.
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise BadInputError(f"{path}: a submission must end in {', '.join(SUFFIXES)}; rename it.")


@contextmanager
def archive_writer(path: Path, suffix: str) -> Iterator[AddMember]:
    """Open an archive for writing; yields a function that adds a member by name and content."""
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", compresslevel=_COMPRESSION_LEVEL) as archive:
            yield lambda name, content: archive.writestr(_zip_member(name), content)
        return
    with ExitStack() as stack:
        stream: io.IOBase = stack.enter_context(path.open("wb"))
        if suffix != ".tar":
            # No name and no time in the gzip header: they would differ from run to run.
            stream = stack.enter_context(
                gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, stream, mtime=0)
            )
        tar = stack.enter_context(
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT)
        )
        yield lambda name, content: tar.addfile(_tar_member(name, content), io.BytesIO(content))


@dataclass(frozen=True)
class Member:
    """A member of an archive; nothing of it is unpacked before it is asked for.

    Attributes:
        name: Its name.
        fault: Why it can't be read, as the end of a sentence, or None.
        read: Its content, valid until the next member is taken.
    """

    name: str
    fault: str | None
    read: Callable[[], bytes]


def read_archive(path: Path, suffix: str, most_bytes: int) -> Iterator[Member]:
    """Every member, in order.

    Args:
        path: The archive.
        suffix: Its format.
        most_bytes: What a member may hold; a larger one has a fault, and ends a tar, which
            can't be read on without unpacking it.

    Raises:
        IrregularFileError: There is a pipe or a device in the archive's place.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        if suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    fault = _zip_fault(info, most_bytes)
                    yield Member(info.filename, fault, partial(archive.read, info))
            return
        stream = file if suffix == ".tar" else gzip.GzipFile(fileobj=file, mode="rb")
        # "r:", not the stream mode: that one gathers a header of any length.
        with tarfile.open(fileobj=cast(Any, _Bounded(stream, most_bytes)), mode="r:") as tar:
            for entry in tar:
                fault = _tar_fault(entry, most_bytes)
                yield Member(entry.name, fault, partial(_tar_content, tar, entry))
                if entry.size > most_bytes:
                    return


class _Bounded:
    """A file that refuses to be read in pieces larger than a member may be.

    Headers of a tar have a length of their own, and tarfile reads them whole.
    """

    def __init__(self, file: Any, most_bytes: int) -> None:
        self._file, self._most = file, max(most_bytes, _MOST_HEADER_BYTES)
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        if not 0 <= size <= self._most:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return bytes(self._file.read(size))


def _tar_content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(entry)
    assert content is not None, "only members without a fault are read"
    return content.read()


def _tar_fault(entry: tarfile.TarInfo, most_bytes: int) -> str | None:
    if entry.isdir():
        return "is a folder, not a map"
    if not entry.isreg() or entry.issparse():
        return "is a link, a device or a sparse file, not a map"
    return _size_fault(entry.size, most_bytes)


def _zip_fault(info: zipfile.ZipInfo, most_bytes: int) -> str | None:
    if info.is_dir():
        return "is a folder, not a map"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _ZIP_COMPRESSIONS:
        return "is compressed in an unknown way"
    return _size_fault(info.file_size, most_bytes)


def _size_fault(size: int, most_bytes: int) -> str | None:
    return f"has {size:,} bytes, a map at most {most_bytes:,}" if size > most_bytes else None


def _tar_member(name: str, content: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = _READABLE_BY_ALL
    return member


def _zip_member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _ZIP_EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix, whatever writes it
    member.external_attr = _READABLE_BY_ALL << 16
    return member
