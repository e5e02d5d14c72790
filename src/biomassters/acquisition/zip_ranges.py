"""Single files out of zips by range requests: an archive of 200 GB is never fetched whole.

A zip ends with a directory of where each file lies (PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7 to
4.3.16). Of a split one (``.z01``, ``.z02`` … ``.zip``, as the official re-host has them) every
place in it counts from the start of a part. ``zipfile`` reads the directory; it refuses split
archives, and would ask for a file in three small pieces, so that the ends and the files are read
here: one request a file, any number of them at once.
"""

import io
import re
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import PurePosixPath
from struct import Struct
from typing import NamedTuple

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import Source, WantedFile, open_ranges
from biomassters.errors import BadInputError
from biomassters.messages import first_line

_END = Struct("<4s4H2LH")  # 4.3.16: of the directory
_END64 = Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR64 = Struct("<4sLQL")  # 4.3.15: where that lies
_HEADER = Struct("<4s5H3L2H")  # 4.3.7: before each file
_END_SIGNATURE, _END64_SIGNATURE, _LOCATOR_SIGNATURE = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_HEADER_SIGNATURE = b"PK\3\4"
_TAIL_BYTES = _LOCATOR64.size + _END.size + 0xFFFF  # with the longest comment
_NAME_AND_EXTRA = 2 * 0xFFFF  # at most, between a file's header and its data
_MOST_DIRECTORY_BYTES = 2**30
_MOST_FILE_BYTES = 2**28
_ENCRYPTED = 1


def open_zips(options: AcquisitionOptions) -> Source:
    """The zips that the options name, as one source of single files.

    Raises:
        BadInputError: One is no zip, or a part of it is missing or too short.
    """
    found: dict[str, tuple[_RangedZip, zipfile.ZipInfo]] = {}
    for place in options.zips:
        archive = _RangedZip(place, options)
        for entry in archive.entries:
            found.setdefault(PurePosixPath(entry.filename).name, (archive, entry))

    def read(file: WantedFile) -> bytes:
        if file.filename not in found:
            raise FileNotFoundError("is in none of the zips")
        archive, entry = found[file.filename]
        return archive.read(entry)

    return read


class _Part(NamedTuple):
    path: str
    size: int
    read: Callable[[int, int], bytes]


class _Directory(NamedTuple):
    """The list of files: in which part, from where, how long; and how many parts there are."""

    part: int
    offset: int
    size: int
    parts: int


class _RangedZip:
    """A zip whose parts are files, local or remote.

    Attributes:
        entries: Its files and folders.
    """

    def __init__(self, place: str, options: AcquisitionOptions) -> None:
        self._place, self._options = place, options
        last = self._open(place)
        end = self._find_end(last)
        self._parts = [*map(self._open, _part_names(place, end.parts)), last]
        self._starts = [0, *accumulate(part.size for part in self._parts)]
        end = self._find_end64(end)
        if end.parts != len(self._parts) or end.part >= len(self._parts):
            raise self._fault("names more parts than it has")
        begin = self._starts[end.part] + end.offset
        if end.size > _MOST_DIRECTORY_BYTES or begin + end.size > self._starts[-1]:
            raise self._fault("has a directory that reaches beyond its end")
        self.entries = self._read_directory(begin, end.size)
        self._ends = self._check_places(begin)

    def read(self, entry: zipfile.ZipInfo) -> bytes:
        """A file, proven by its CRC-32.

        Raises:
            OSError: It came damaged.
        """
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise PermissionError("is encrypted, or compressed in an unknown way")
        if entry.file_size > _MOST_FILE_BYTES:
            raise PermissionError(f"has {entry.file_size:,} bytes, which no chip's file has")
        begin = self._begin(entry)
        most = _HEADER.size + _NAME_AND_EXTRA + entry.compress_size
        content = self._range(begin, min(self._ends[begin], begin + most))
        if len(content) < _HEADER.size or not content.startswith(_HEADER_SIGNATURE):
            raise OSError("the zip holds no file at its place")
        *_, name_bytes, extra_bytes = _HEADER.unpack_from(content)
        packed = content[_HEADER.size + name_bytes + extra_bytes :][: entry.compress_size]
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            packed = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, entry.file_size + 1)
        if len(packed) != entry.file_size or zlib.crc32(packed) != entry.CRC:
            raise OSError("its CRC-32 is not the zip's")
        return packed

    def _open(self, path: str) -> _Part:
        try:
            return _Part(path, *open_ranges(path, self._options))
        except BadInputError:
            raise
        except FileNotFoundError:
            raise BadInputError(
                f"acquisition.zips: there is no {path}, which {self._place} needs; let all parts "
                "lie beside one another."
            ) from None
        except Exception as error:  # whatever a network library raises
            raise BadInputError(
                f"acquisition.zips: {path} can't be opened ({first_line(error)}): check the "
                "address and the network."
            ) from error

    def _fault(self, what: str, path: str = "") -> BadInputError:
        return BadInputError(
            f"acquisition.zips: {path or self._place} {what}: it is no zip or not whole, fetch or "
            "name it again."
        )

    def _range(self, begin: int, end: int) -> bytes:
        """Bytes of the parts as if they were one file."""
        pieces = []
        while begin < end:
            number = bisect_right(self._starts, begin) - 1
            part, start = self._parts[number], self._starts[number]
            stop = min(end - start, part.size)
            piece = part.read(begin - start, stop)
            if len(piece) != stop - (begin - start):
                raise OSError(f"{part.path} gave {len(piece):,} bytes of a part that was asked for")
            pieces.append(piece)
            begin = start + stop
        return b"".join(pieces)

    def _known_range(self, begin: int, end: int) -> bytes:
        """The same of what is read before any file; errors as sentences."""
        try:
            return self._range(begin, end)
        except Exception as error:  # whatever a network library raises
            raise BadInputError(
                f"acquisition.zips: {self._place} can't be read in parts ({first_line(error)}): "
                "check the network, or take a server that answers range requests."
            ) from error

    def _find_end(self, last: _Part) -> _Directory:
        """The record at the very end; its numbers are 0xFFFF… where zip64 has the true ones."""
        self._parts, self._starts = [last], [0, last.size]
        self._tail = self._known_range(max(0, last.size - _TAIL_BYTES), last.size)
        place = self._tail.rfind(_END_SIGNATURE)
        if place < 0 or len(self._tail) < place + _END.size:
            raise self._fault("has no directory at its end")
        _, number, part, _, _, size, offset, comment = _END.unpack_from(self._tail, place)
        if place + _END.size + comment > len(self._tail):
            raise self._fault("ends too early")
        self._tail = self._tail[:place]
        locator = self._locator()
        if locator is not None:
            number = locator[2] - 1
        if not 0 <= number < 1000:
            raise self._fault("names more parts than it has")
        return _Directory(part, offset, size, number + 1)

    def _locator(self) -> tuple[int, int, int] | None:
        """Part and place of the zip64 record, and the number of parts."""
        place = len(self._tail) - _LOCATOR64.size
        if place < 0 or not self._tail[place:].startswith(_LOCATOR_SIGNATURE):
            return None
        _, part, offset, parts = _LOCATOR64.unpack_from(self._tail, place)
        return part, offset, parts

    def _find_end64(self, end: _Directory) -> _Directory:
        locator = self._locator()
        if locator is None:
            return end
        part, offset, parts = locator
        if part >= len(self._parts):
            raise self._fault("names more parts than it has")
        begin = self._starts[part] + offset
        if begin + _END64.size > self._starts[-1]:
            raise self._fault("has a directory that reaches beyond its end")
        record = self._known_range(begin, begin + _END64.size)
        signature, _, _, _, _, part, _, _, size, offset = _END64.unpack(record)
        if signature != _END64_SIGNATURE:
            raise self._fault("has no directory where it says")
        return _Directory(part, offset, size, parts)

    def _read_directory(self, begin: int, size: int) -> list[zipfile.ZipInfo]:
        listed = self._known_range(begin, begin + size)
        alone = listed + _END.pack(_END_SIGNATURE, 0, 0, 0, 0, len(listed), 0, 0)
        try:
            with zipfile.ZipFile(io.BytesIO(alone)) as directory:
                return directory.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise self._fault(f"has a directory that can't be read ({error})") from error

    def _begin(self, entry: zipfile.ZipInfo) -> int:
        return self._starts[entry.volume] + entry.header_offset

    def _check_places(self, directory: int) -> dict[int, int]:
        """Where each file ends at the latest, by where it begins; all lie one after another.

        A part that is too short moves all that follow, into the file that it should end with.
        """
        for entry in self.entries:
            if entry.volume >= len(self._parts):
                raise self._fault("names more parts than it has")
            part = self._parts[entry.volume]
            if entry.header_offset + _HEADER.size > part.size:
                raise self._fault("ends too early", part.path)
        files = sorted(self.entries, key=self._begin)
        begins = [*map(self._begin, files), directory]
        for entry, (begin, after) in zip(files, pairwise(begins), strict=True):
            if begin + _HEADER.size + entry.compress_size > after:
                raise self._fault("ends too early", self._parts[entry.volume].path)
        return dict(pairwise(begins))


def _part_names(place: str, parts: int) -> list[str]:
    """The parts before the last one, as Info-ZIP names them."""
    address, question, query = place.partition("?") if "://" in place else (place, "", "")
    stem = re.sub(r"\.zip$", "", address, flags=re.IGNORECASE)
    return [f"{stem}.z{number:02d}{question}{query}" for number in range(1, parts)]
