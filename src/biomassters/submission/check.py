"""Any submission, whoever made it: what is wrong with it, and what is in it.

Nothing of an archive is trusted: members are read one at a time, none beyond a map's size.
``build`` writes submissions by the same rules and reads them back with ``read_archive``.
"""

import gzip
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.layout import label_name
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.io.files import open_regular
from biomassters.io.raster import decode_with_gdal
from biomassters.io.raster_spec import DamagedFileError

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")

_BROKEN: tuple[type[Exception], ...] = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, OSError),
    *(RuntimeError, NotImplementedError, ValueError),  # of zipfile, at what it doesn't know
)
_MOST_VALUES = 16  # times a map's own bytes: another type or more bands still get a sentence
_MOST_HEADER_BYTES = 2**20
_MOST_FAULTS = 20_000
_ENCRYPTED = 1  # bit of a zip member's flags
_ZIP_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


@dataclass
class AgbRange:
    """Values of the maps seen so far, AGB in Mg/ha."""

    maps: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    total: float = 0.0
    pixels: int = 0

    @property
    def mean(self) -> float | None:
        """Over all pixels; None without maps."""
        return self.total / self.pixels if self.pixels else None

    def update(self, agb_HW: NDArray[np.float32]) -> None:
        """Add a map."""
        self.maps += 1
        self.minimum = min(self.minimum, float(agb_HW.min()))
        self.maximum = max(self.maximum, float(agb_HW.max()))
        self.total += float(agb_HW.sum(dtype=np.float64))
        self.pixels += agb_HW.size


@dataclass
class SubmissionCheck:
    """What a look at every member of a submission found.

    Attributes:
        faults: Member and what makes the submission invalid.
        remarks: Member and what is valid but unlikely for a forest.
        agb: Values of the good maps.
    """

    faults: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    agb: AgbRange = field(default_factory=AgbRange)

    def summary(self) -> dict[str, Any]:
        """Ready for JSON; AGB in Mg/ha, None where there is no good map."""
        return {
            "maps": self.agb.maps,
            "minimum_agb_mg_per_ha": self.agb.minimum if self.agb.maps else None,
            "mean_agb_mg_per_ha": self.agb.mean,
            "maximum_agb_mg_per_ha": self.agb.maximum if self.agb.maps else None,
            "faults": [list(fault) for fault in self.faults],
            "remarks": [list(remark) for remark in self.remarks],
        }

    def require_valid(self, path: Path) -> None:
        """Raise BadInputError that names the first faults, if there are any."""
        if self.faults:
            shown = "; ".join(f"{name} {fault}" for name, fault in self.faults[:5])
            more = len(self.faults) - 5
            raise BadInputError(
                f"{path} is no valid submission: {shown}"
                + (f"; and {more} more faults" if more > 0 else "")
                + ". Predict the test split again and build the submission from that."
            )


def check_submission(
    path: Path,
    test_chip_ids: Sequence[str],
    chip_size: tuple[int, int],
    *,
    each_map: Callable[[str, NDArray[np.float32]], object] = lambda chip_id, agb_HW: None,
    progress: bool = True,
) -> SubmissionCheck:
    """Look at every member of an archive, one at a time.

    Args:
        path: .tar.gz, .tgz, .tar or .zip.
        test_chip_ids: Every chip that must be in it, and no other.
        chip_size: H and W of every map.
        each_map: Is given the chip id and the AGB of every good map, as to be scored.
        progress: Show a bar on stderr.

    Returns:
        What was found: missing, foreign and repeated members; maps of another size, type or band
        count; pixels that are no numbers; and, as remarks, negative and constant maps.
    """
    check, seen = SubmissionCheck(), set[str]()
    expected = {label_name(chip_id): chip_id for chip_id in test_chip_ids}
    most_bytes = _MOST_VALUES * 4 * chip_size[0] * chip_size[1] + _MOST_HEADER_BYTES
    members = read_archive(path, archive_suffix(path), most_bytes)
    bar = tracked(members, "checking the submission", len(expected), shown=progress)
    try:
        for member in bar:
            name = member.name
            if len(check.faults) >= _MOST_FAULTS:
                check.faults.append((path.name, "has too many faults to look further"))
                return check
            if name in seen:
                fault: str | None = "is there twice"
            elif name not in expected:
                fault = "belongs to no test chip"
            else:
                fault, agb_HW = member.fault, None
                if not fault:
                    fault, agb_HW = _look(check, name, member.read(), chip_size, most_bytes)
                if agb_HW is not None:
                    each_map(expected[name], agb_HW)
            if fault:
                check.faults.append((name, fault))
            seen.add(name)
    except _BROKEN as error:
        said = " ".join(str(error).split()) or type(error).__name__
        check.faults.append((path.name, f"can't be read to its end ({said})"))
    check.faults += [(name, "is missing") for name in sorted(expected.keys() - seen)]
    return check


def _look(
    check: SubmissionCheck, name: str, content: bytes, chip_size: tuple[int, int], most_bytes: int
) -> tuple[str, NDArray[np.float32] | None]:
    """Count a good map and remark on it; returns what makes it invalid, or "" and the map."""
    try:
        image = decode_with_gdal(content, name, most_bytes)
    except DamagedFileError as error:
        return f"is no readable TIFF: it {error.reason}", None
    except BadInputError as error:
        return f"is no readable TIFF: {str(error).rstrip('.')}", None
    if len(image) != 1:
        return f"has {len(image)} bands, not 1", None
    agb_HW = image[0]
    fault = map_fault(agb_HW, chip_size)
    if fault:
        return fault, None
    check.agb.update(agb_HW)
    if agb_HW.min() < 0:
        check.remarks.append((name, f"has {int((agb_HW < 0).sum())} negative pixels"))
    if agb_HW.min() == agb_HW.max():
        check.remarks.append((name, f"is {float(agb_HW.min()):g} Mg/ha everywhere"))
    return "", agb_HW


def map_fault(agb_HW: NDArray[Any], chip_size: tuple[int, int]) -> str:
    """What makes a map invalid, as the end of a sentence, or ""."""
    if agb_HW.shape != chip_size:
        return f"has shape {agb_HW.shape}, not {chip_size}"
    if agb_HW.dtype != np.float32:
        return f"has values of type {agb_HW.dtype}, not float32"
    bad = agb_HW.size - int(np.isfinite(agb_HW).sum())
    return f"has {bad} pixels that are NaN or infinite" if bad else ""


def archive_suffix(path: Path) -> str:
    """The suffix that decides a submission's format.

    Raises:
        BadInputError: It is none of ``SUFFIXES``.
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise BadInputError(f"{path}: a submission must end in {', '.join(SUFFIXES)}; rename it.")


@dataclass(frozen=True)
class Member:
    """A member of an archive; nothing of it is unpacked before it is asked for.

    Attributes:
        name: Its name.
        fault: Why it can't be read, as the end of a sentence, or "".
        read: Its content, valid until the next member is taken.
    """

    name: str
    fault: str
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
                    fault = _zip_fault(info) or _size_fault(info.file_size, most_bytes)
                    yield Member(info.filename, fault, partial(archive.read, info))
            return
        stream = file if suffix == ".tar" else gzip.GzipFile(fileobj=file, mode="rb")
        # "r:", not the stream mode: that one gathers a header of any length.
        with tarfile.open(fileobj=cast(Any, _Bounded(stream, most_bytes)), mode="r:") as tar:
            for entry in tar:
                fault = _tar_fault(entry) or _size_fault(entry.size, most_bytes)
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
        if not 0 <= size <= self._most:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return bytes(self._file.read(size))


def _tar_content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(entry)
    assert content is not None, "only members without a fault are read"
    return content.read()


def _tar_fault(entry: tarfile.TarInfo) -> str:
    if entry.isdir():
        return "is a folder, not a map"
    regular = entry.isreg() and not entry.issparse()
    return "" if regular else "is a link, a device or a sparse file, not a map"


def _zip_fault(info: zipfile.ZipInfo) -> str:
    if info.is_dir():
        return "is a folder, not a map"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return "" if info.compress_type in _ZIP_COMPRESSIONS else "is compressed in an unknown way"


def _size_fault(size: int, most_bytes: int) -> str:
    return f"has {size:,} bytes, a map at most {most_bytes:,}" if size > most_bytes else ""
