"""Any submission, whoever made it: what is wrong with it, and what is in it."""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.layout import label_name
from biomassters.errors import BadInputError
from biomassters.io.raster import decode_with_gdal
from biomassters.io.raster_spec import DamagedFileError
from biomassters.progress_bar import tracked
from biomassters.submission.formats import archive_suffix, read_archive

_BROKEN: tuple[type[Exception], ...] = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, OSError),
    *(RuntimeError, NotImplementedError, ValueError),  # of zipfile, at what it doesn't know
)
_MOST_VALUES = 16  # times a map's own bytes: another type or more bands still get a sentence
_MOST_HEADER_BYTES = 2**20
_MOST_FAULTS = 20_000


@dataclass
class SubmissionCheck:
    """What a look at every member of a submission found.

    Attributes:
        faults: Member and what makes the submission invalid.
        remarks: Member and what is valid but unlikely for a forest.
        maps: Good maps.
        minimum: Smallest AGB, Mg/ha.
        maximum: Largest AGB, Mg/ha.
        total: Sum over good maps' pixels, Mg/ha.
        pixels: Of good maps.
    """

    faults: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    maps: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    total: float = 0.0
    pixels: int = 0

    def summary(self) -> dict[str, Any]:
        """Ready for JSON; AGB in Mg/ha, None where there is no good map."""
        return {
            "maps": self.maps,
            "minimum_agb_mg_per_ha": self.minimum if self.maps else None,
            "mean_agb_mg_per_ha": self.total / self.pixels if self.pixels else None,
            "maximum_agb_mg_per_ha": self.maximum if self.maps else None,
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
    progress: bool = True,
) -> SubmissionCheck:
    """Look at every member of an archive, one at a time.

    Args:
        path: .tar.gz, .tgz, .tar or .zip.
        test_chip_ids: Every chip that must be in it, and no other.
        chip_size: H and W of every map.
        progress: Show a bar on stderr.

    Returns:
        What was found: missing, foreign and repeated members; maps of another size, type or band
        count; pixels that are no numbers; and, as remarks, negative and constant maps.
    """
    check, seen = SubmissionCheck(), set[str]()
    expected = {label_name(chip_id) for chip_id in test_chip_ids}
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
                check.faults.append((name, "is there twice"))
            elif name not in expected:
                check.faults.append((name, "belongs to no test chip"))
            elif member.fault is not None:
                check.faults.append((name, member.fault))
            else:
                _look(check, name, member.read(), chip_size, most_bytes)
            seen.add(name)
    except _BROKEN as error:
        said = " ".join(str(error).split()) or type(error).__name__
        check.faults.append((path.name, f"can't be read to its end ({said})"))
    check.faults += [(name, "is missing") for name in sorted(expected - seen)]
    return check


def _look(
    check: SubmissionCheck, name: str, content: bytes, chip_size: tuple[int, int], most_bytes: int
) -> None:
    try:
        image = decode_with_gdal(content, name, most_bytes)
    except DamagedFileError as error:
        check.faults.append((name, f"is no readable TIFF: it {error.reason}"))
        return
    except BadInputError as error:
        check.faults.append((name, f"is no readable TIFF: {str(error).rstrip('.')}"))
        return
    fault = _fault(image, chip_size)
    if fault:
        check.faults.append((name, fault))
        return
    check.maps += 1
    check.minimum = min(check.minimum, float(image.min()))
    check.maximum = max(check.maximum, float(image.max()))
    check.total += float(image.sum(dtype=np.float64))
    check.pixels += image.size
    if image.min() < 0:
        check.remarks.append((name, f"has {int((image < 0).sum())} negative pixels"))
    if image.min() == image.max():
        check.remarks.append((name, f"is {float(image.min()):g} Mg/ha everywhere"))


def _fault(image: NDArray[Any], chip_size: tuple[int, int]) -> str:
    """What makes a map [bands, H, W] invalid, or ""."""
    if len(image) != 1:
        return f"has {len(image)} bands, not 1"
    if image.shape[1:] != chip_size:
        return f"has shape {image.shape[1:]}, not {chip_size}"
    if image.dtype != np.float32:
        return f"has values of type {image.dtype}, not float32"
    bad = image.size - int(np.isfinite(image).sum())
    return f"has {bad} pixels that are NaN or infinite" if bad else ""
