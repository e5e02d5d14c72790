"""The archive that is handed in: every test chip once, checked before it takes its name."""

import hashlib
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.layout import label_name
from biomassters.chips.predicted_maps import MapFolder
from biomassters.errors import BadInputError
from biomassters.io.raster import encode_raster
from biomassters.progress_bar import tracked
from biomassters.submission.formats import (
    AddMember,
    archive_suffix,
    archive_writer,
    read_archive,
)

Map = NDArray[np.float32] | Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class SubmissionSummary:
    """What was written.

    Attributes:
        path: The archive.
        chips: Maps in it.
        size_bytes: Size of the archive.
        sha256: Of the archive; the same for the same maps.
        minimum: Smallest predicted AGB, Mg/ha.
        mean: Mean predicted AGB, Mg/ha.
        maximum: Largest predicted AGB, Mg/ha.
        negative_pixels: Pixels below 0: valid, but no forest has them.
    """

    path: Path
    chips: int
    size_bytes: int
    sha256: str
    minimum: float
    mean: float
    maximum: float
    negative_pixels: int


class _Range:
    """Smallest, mean and largest value of what was written."""

    def __init__(self) -> None:
        self.minimum, self.maximum = np.inf, -np.inf
        self.total, self.pixels, self.negative = 0.0, 0, 0

    def update(self, agb_HW: NDArray[np.float32]) -> None:
        self.minimum = min(self.minimum, float(agb_HW.min()))
        self.maximum = max(self.maximum, float(agb_HW.max()))
        self.total += float(agb_HW.sum(dtype=np.float64))
        self.pixels += agb_HW.size
        self.negative += int((agb_HW < 0).sum())


def write_submission(
    path: Path | str,
    predictions: Mapping[str, Map] | Path | str,
    test_chip_ids: Sequence[str],
    chip_size: tuple[int, int] = (256, 256),
    *,
    progress: bool = True,
) -> SubmissionSummary:
    """Check maps and write them as ``{chip_id}_agbm.tif`` into one archive.

    Maps are taken one at a time, in the order of chip ids. The archive is written under a
    temporary name, read back, and only then replaces what stood at ``path``.

    Args:
        path: The archive; its suffix (.tar.gz, .tgz, .tar, .zip) decides the format.
        predictions: AGB in Mg/ha by chip id, as float32 [H, W] or a function that returns it;
            or a folder of ``{chip_id}_agbm.tif``.
        test_chip_ids: Every chip that must be in the archive, and no other.
        chip_size: H and W of every map.
        progress: Show a bar on stderr.

    Returns:
        What was written.

    Raises:
        BadInputError: A chip is missing, foreign or twice, or a map has another size or type
            or a pixel that is no number; names the first such chip and how many there are.
    """
    place = Path(path)
    suffix = archive_suffix(place)
    maps = predictions if isinstance(predictions, Mapping) else MapFolder(Path(predictions))
    _check_chips(maps, test_chip_ids)
    place.parent.mkdir(parents=True, exist_ok=True)
    growing = place.with_name(f".{place.name}.partial")
    values = _Range()
    try:
        with archive_writer(growing, suffix) as add:
            checksums = _add_all(add, maps, sorted(test_chip_ids), chip_size, values, progress)
        _check_written(growing, suffix, checksums)
        growing.replace(place)
    finally:
        growing.unlink(missing_ok=True)
    return _summary(place, len(checksums), values)


def _check_chips(maps: Mapping[str, Map], test_chip_ids: Sequence[str]) -> None:
    if not test_chip_ids:
        raise BadInputError("No test chips are listed; check the split column of the metadata.")
    twice = sorted(chip for chip, count in Counter(test_chip_ids).items() if count > 1)
    if twice:
        raise BadInputError(
            f"Chip {twice[0]} is listed more than once among the test chips, as are "
            f"{len(twice) - 1} others; list each once."
        )
    predicted = set(maps)  # maps.keys() would open a map to see whether it is there
    missing = sorted(set(test_chip_ids) - predicted)
    if missing:
        raise BadInputError(
            f"Chip {missing[0]} is missing: {len(missing)} of {len(test_chip_ids)} test chips have "
            "no prediction; predict the whole test split."
        )
    foreign = sorted(predicted - set(test_chip_ids))
    if foreign:
        raise BadInputError(
            f"Chip {foreign[0]} is not a test chip: {len(foreign)} of {len(maps)} predictions "
            "don't belong in the submission; remove them or predict the test split alone."
        )


def _add_all(
    add: AddMember,
    maps: Mapping[str, Map],
    chip_ids: Sequence[str],
    chip_size: tuple[int, int],
    values: _Range,
    progress: bool,
) -> dict[str, int]:
    """Write every map; returns the CRC-32 of each member."""
    checksums: dict[str, int] = {}
    faults: list[str] = []
    for chip_id in tracked(chip_ids, "packing the submission", shown=progress):
        agb_HW, fault = _take(maps, chip_id, chip_size)
        if fault:
            faults.append(fault)
        if faults:  # nothing more is written, but the rest is still counted
            continue
        content = encode_raster(agb_HW)
        values.update(agb_HW)
        name = label_name(chip_id)
        add(name, content)
        checksums[name] = zlib.crc32(content)
    if faults:
        raise BadInputError(
            f"{faults[0]} ({len(faults)} of {len(chip_ids)} maps have a fault): "
            "predict these chips again; no submission was written."
        )
    return checksums


def _take(
    maps: Mapping[str, Map], chip_id: str, chip_size: tuple[int, int]
) -> tuple[NDArray[Any], str]:
    """One map and what is wrong with it, or ""."""
    try:
        found = maps[chip_id]
        agb_HW = np.asarray(found() if callable(found) else found)
    except BadInputError as error:
        return np.empty(0), f"Chip {chip_id}: {str(error).rstrip('.')}"
    if agb_HW.shape != chip_size:
        return agb_HW, f"Chip {chip_id} has shape {agb_HW.shape}, not {chip_size}"
    if agb_HW.dtype != np.float32:
        return agb_HW, f"Chip {chip_id} has values of type {agb_HW.dtype}, not float32"
    bad = agb_HW.size - int(np.isfinite(agb_HW).sum())
    return agb_HW, f"Chip {chip_id} has {bad} pixels that are NaN or infinite" if bad else ""


def _check_written(path: Path, suffix: str, checksums: Mapping[str, int]) -> None:
    members = read_archive(path, suffix, sys.maxsize)
    found = [(member.name, zlib.crc32(member.read())) for member in members]
    if found != list(checksums.items()):
        raise OSError(f"{path} reads back differently from what was written; check the disk.")


def _summary(path: Path, chips: int, values: _Range) -> SubmissionSummary:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return SubmissionSummary(
        path=path,
        chips=chips,
        size_bytes=path.stat().st_size,
        sha256=digest,
        minimum=values.minimum,
        mean=values.total / values.pixels,
        maximum=values.maximum,
        negative_pixels=values.negative,
    )
