"""Archives written member by member, with the same bytes for the same members.

Time, owner and permissions of a member say nothing about a prediction, so they are fixed.
"""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from biomassters.errors import BadInputError

AddMember = Callable[[str, bytes], None]
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")

# Maps of floats are almost incompressible: higher levels cost time and save nothing.
_COMPRESSION_LEVEL = 1
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip can express
_READABLE_BY_ALL = 0o644


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


def read_archive(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every member, in order."""
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for zip_member in archive.infolist():
                yield zip_member.filename, archive.read(zip_member)
        return
    with tarfile.open(path, "r|" if suffix == ".tar" else "r|gz") as tar:
        for tar_member in tar:
            content = tar.extractfile(tar_member)
            assert content is not None, "only plain files are written"
            yield tar_member.name, content.read()


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
