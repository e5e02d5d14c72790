"""Every file of an archive against its metadata and against what it should hold.

``verify_archive`` makes a table of one row a file; ``check_file`` is what it does with each. What
is damaged is named there, moved aside on request, and not read again by ``chip_table``.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.layout import (
    QUARANTINE,
    ArchiveFiles,
    file_state,
    quarantine,
    quarantined_files,
)
from biomassters.chips.archive.metadata import LABEL, read_listing
from biomassters.chips.bands import SENSOR, SENSORS, Sensor
from biomassters.chips.pixel_checks import image_unit_fault
from biomassters.console import Progress
from biomassters.io.checksum import posix_cksum
from biomassters.io.files import RowJournal
from biomassters.io.raster import nan_is_nodata, read_file, view_pixels
from biomassters.io.raster_spec import (
    MOST_AGB,
    DamagedFileError,
    RasterSpec,
    image_fault,
    label_fault,
)
from biomassters.io.storage import State, fetch
from biomassters.options import Options
from biomassters.workers.pool import Threads, Workers

logger = logging.getLogger(__name__)

JOURNAL_NAME = "verification.jsonl"
_RIGHT, _MISSING, _DAMAGED, _UNLISTED = "right", "missing", "damaged", "no checksum"
_FRACTIONS = ("nan_fraction", "nodata_fraction", "zero_fraction", "constant_block_fraction")
_COUNTS = ("expected_size", "size", "expected_cksum", "cksum")
_TYPES = dict.fromkeys(_COUNTS, "Int64") | dict.fromkeys(_FRACTIONS, "float64")
_COLUMNS = (
    *("chip_id", "split", "sensor", "month", "filename"),
    *(*_COUNTS, *_FRACTIONS),
    *("status", "reason", "quarantined"),
)
_SPECS = {sensor.name: (len(sensor.bands), sensor.archive_dtype) for sensor in SENSORS}
_SPECS[LABEL] = (1, np.dtype(np.float32))
_BLOCK = 16  # pixels a side of a block that is looked at for a single value


class VerificationOptions(Options):
    """What is done about files that are not as the metadata say."""

    quarantine: bool = Field(
        False,
        description="Move files whose size or checksum is wrong into the archive's folder "
        ".quarantine, as acquisition does when it replaces them; nothing is deleted, and on "
        "object storage nothing is moved",
    )


class ListedFile(NamedTuple):
    """A file as a row of ``read_listing``, None where the metadata have no size or cksum.

    ``state`` is that of the file when it was looked for, None where it is missing.
    """

    filename: str
    sensor: str
    month: int
    path: str
    size: int | None
    cksum: int | None
    state: State | None = None


class _ChipListing(NamedTuple):
    chip_id: str
    split: str
    files: list[ListedFile]

    def signature(self) -> str:
        """A text that changes when a file, or what should be in it, changes."""
        return hashlib.blake2b(json.dumps(self.files).encode(), digest_size=16).hexdigest()


def verify_archive(
    archive: Archive, work: Path, options: VerificationOptions, workers: Workers | None = None
) -> pd.DataFrame:
    """Reads every file of an archive and compares it with the metadata.

    Size and POSIX cksum must be those of the metadata; the file must decode to the right bands,
    type and size, without NaN. An interrupted run, whose journal lies in the folder ``work``, is
    continued with the first chip that wasn't finished; after a complete one everything is read
    again. The table doesn't depend on who reads (None: threads).

    Returns:
        One row a listed file, by chip, sensor and month: chip_id, split, sensor, month,
        filename; expected_size, size in bytes; expected_cksum, cksum; nan_, nodata_ (−9999),
        zero_ and constant_block_fraction; status (``"right"``, ``"missing"``, ``"damaged"``,
        ``"no checksum"``), reason (end of a sentence), quarantined. What can't be known is NA.

    Raises:
        BadInputError: If the metadata are missing or wrong, or another run verifies it.
    """
    chips = _chip_listings(archive)
    with RowJournal(work / JOURNAL_NAME, f"verifying {archive.root}") as journal:
        signatures = [chip.signature() for chip in chips]
        todo = [
            number
            for number, chip in enumerate(chips)
            if journal.entries.get(chip.chip_id, {}).get("signature") != signatures[number]
        ]
        if len(todo) < len(chips):
            logger.info("Verification continued: %d of %d chips left.", len(todo), len(chips))
        task = partial(_check_chip, shape=archive.shape)
        checked = (workers or Threads()).each(task, [chips[number] for number in todo])
        with Progress("checking files", len(todo)) as bar:
            for place, rows in checked:
                number = todo[place]
                entry = {"signature": signatures[number], "rows": rows}
                journal.append(chips[number].chip_id, entry)
                bar.update()
        table = pd.DataFrame(_rows(chips, journal, archive, options)).astype(_TYPES)
        journal.complete()
    logger.info("%s", summary_line(table))
    return table[list(_COLUMNS)]


def summary_line(table: pd.DataFrame) -> str:
    """How many files are right, and the first that aren't."""
    counts = (f"{count} {status}" for status, count in Counter(table["status"]).items())
    wrong = table.loc[table["status"] == _DAMAGED, ["filename", "reason"]].head(3)
    named = (f"; {name} {reason}" for name, reason in wrong.itertuples(index=False))
    return f"{len(table)} files checked: {', '.join(counts)}{''.join(named)}."


def known_damage(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Reasons by chip and name of the damaged files."""
    damage: dict[str, dict[str, str]] = {}
    rows = table.loc[table["status"] == _DAMAGED, ["chip_id", "filename", "reason"]]
    for chip_id, filename, reason in rows.itertuples(index=False):
        damage.setdefault(chip_id, {})[filename] = reason
    return damage


def _chip_listings(archive: Archive) -> list[_ChipListing]:
    """Listed files by chip; one that is missing is looked for in quarantine."""
    files = ArchiveFiles.find(archive.root)
    aside = quarantined_files(archive.root)
    chips: dict[str, _ChipListing] = {}
    columns = ("chip_id", "split", "filename", "sensor", "month", "path", "size", "cksum")
    listing = read_listing(files)
    values = (listing[name].astype(object) for name in columns)
    for chip_id, split, filename, sensor, month, path, *numbers in zip(*values, strict=True):
        path = path or aside.get(filename, "")
        state = files.states.get(path) or file_state(path) if path else None
        size, cksum = (None if value is pd.NA else int(value) for value in numbers)
        file = ListedFile(filename, sensor, month, path, size, cksum, state)
        chips.setdefault(chip_id, _ChipListing(chip_id, split, [])).files.append(file)
    return list(chips.values())


def _check_chip(chip: _ChipListing, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Runs on a worker: one row a file, as ``check_file`` gives it."""
    fetched = fetch(file.path for file in chip.files)
    return [check_file(file, shape, fetched.get(file.path)) for file in chip.files]


def _rows(
    chips: list[_ChipListing], journal: RowJournal, archive: Archive, options: VerificationOptions
) -> Iterator[dict[str, Any]]:
    """Rows of the table; what is wrong is moved aside on the way, if that is asked for."""
    for chip in chips:
        for file, facts in zip(chip.files, journal.entries[chip.chip_id]["rows"], strict=True):
            yield {
                "chip_id": chip.chip_id,
                "split": chip.split,
                "sensor": file.sensor,
                "month": file.month,
                "filename": file.filename,
                "expected_size": file.size,
                "expected_cksum": file.cksum,
                **facts,
                "quarantined": _set_aside(file, facts, archive, options),
            }


def _set_aside(
    file: ListedFile, facts: dict[str, Any], archive: Archive, options: VerificationOptions
) -> bool:
    """Moves a file whose bytes are wrong; True if it is in quarantine then.

    Bytes that are as the metadata say stay, even if they don't decode: a new copy would be
    the same.
    """
    root = archive.root
    # On object storage nothing is moved: it would be a copy and a deletion of shared data.
    if facts["status"] != _DAMAGED or not isinstance(root, Path):
        return False
    if Path(file.path).parent == root / QUARANTINE:
        return True
    size, cksum = facts["size"], facts["cksum"]
    wrong = size is None or transfer_fault(file.size, file.cksum, size, cksum) is not None
    return options.quarantine and wrong and quarantine(root, Path(file.path))


def check_file(
    file: ListedFile, shape: tuple[int, int], data: bytes | None = None
) -> dict[str, Any]:
    """Reads a file, unless its bytes were fetched, once: size, checksum, decoding, values.

    ``shape`` is the height and width in pixels that it should have.

    Returns:
        size and cksum as found (None where it can't be read); nan_, nodata_, zero_ and
        constant_block_fraction (None where it can't be decoded); status (``"right"``,
        ``"missing"``, ``"damaged"``, or ``"no checksum"`` where the metadata have none); reason
        (``""`` if nothing is wrong).
    """
    row: dict[str, Any] = dict.fromkeys(("size", "cksum", *_FRACTIONS))
    if not file.path:
        return {**row, "status": _MISSING, "reason": "is missing"}
    fault, unlisted = None, file.size is None or file.cksum is None
    try:
        view = read_file(file.path, data)
        row |= {"size": len(view), "cksum": posix_cksum(view)}
        fault = transfer_fault(file.size, file.cksum, row["size"], row["cksum"])
        values = view_pixels(file.path, view, RasterSpec(*_SPECS[file.sensor], shape))
        sensor = SENSOR.get(file.sensor)
        partly = sensor is None and bool(np.isnan(values).any()) and nan_is_nodata(file.path, view)
        facts = pixel_facts(values, sensor, partly=partly)
        row |= {name: getattr(facts, name) for name in _FRACTIONS}
        reason = fault or facts.fault or (_unit_fault(file.sensor, values) if unlisted else "")
    except DamagedFileError as error:
        reason = fault or error.reason
    status = _DAMAGED if reason else _UNLISTED if unlisted else _RIGHT
    return {**row, "status": status, "reason": reason}


def transfer_fault(
    expected_size: int | None, expected_cksum: int | None, size: int | None, cksum: int | None
) -> str | None:
    """What differs from the metadata, as the end of a sentence, or None."""
    if expected_size is not None and size != expected_size:
        return f"has {size:,} bytes instead of {expected_size:,}"
    if expected_cksum is not None and cksum != expected_cksum:
        return f"has cksum {cksum} instead of {expected_cksum}"
    return None


def _unit_fault(sensor: str, values: NDArray) -> str:
    """Without a checksum only the values themselves can say that they are no image."""
    if sensor == LABEL:
        most = float(np.fmax.reduce(values, axis=None))  # NaN is no label
        return f"holds {most:g} Mg/ha, more than any forest" if most > MOST_AGB else ""
    row = SENSOR[sensor]
    pixels = values.reshape(len(values), -1).astype(np.float32)
    if row.floor is not None:
        pixels[pixels == row.nodata] = np.nan
    fault = image_unit_fault(sensor, dict(zip(row.bands, pixels, strict=True)))
    return "" if fault is None else f"{fault.reason}: {fault.remedy}"


class PixelFacts(NamedTuple):
    """Shares of an image's values, and its fault."""

    nan_fraction: float  # NaN or infinite
    nodata_fraction: float  # below the sensor's floor, as −9999 dB is
    zero_fraction: float  # 0
    # Of all 16 × 16 blocks of a band, those with one single value that is neither 0 nor no data;
    # bands that measure nothing, such as cloud probability, are so by nature and left out.
    constant_block_fraction: float
    fault: str | None  # what is wrong, as the end of a sentence, or None


def pixel_facts(values: NDArray, sensor: Sensor | None, partly: bool = False) -> PixelFacts:
    """Looks at an image [bands, H, W], or without a sensor a label, in few passes over its values.

    ``partly``: whether NaN in a label means no label.
    """
    # Pixels as they lie in the file, so that every pass runs straight through memory.
    pixels = values.transpose(1, 2, 0)
    is_float = values.dtype.kind == "f"
    zeros = values.size - np.count_nonzero(pixels)
    floor = 0.0 if sensor is None else sensor.floor
    nodata = np.count_nonzero(pixels < floor) if sensor is not None and floor is not None else 0
    nans = _not_finite(pixels) if is_float else 0
    if sensor is None:
        fault = label_fault(values[0], partly=partly)
    else:
        fault = image_fault(values) if nans or zeros == values.size else None
    nan, none, zero = (float(count / values.size) for count in (nans, nodata, zeros))
    measured = pixels if sensor is None else pixels[..., : len(sensor.measured)]
    return PixelFacts(nan, none, zero, _constant_blocks(measured, floor), fault)


def _not_finite(values: NDArray[np.floating]) -> int:
    # A sum keeps NaN and infinity; only then are they worth a mask.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(values.sum()):
            return 0
    return values.size - int(np.isfinite(values).sum())


def _constant_blocks(pixels: NDArray, floor: float | None) -> float:
    """Share of blocks with one value, of [H, W, bands]."""
    rows, columns = (size // _BLOCK for size in pixels.shape[:2])
    if rows == 0 or columns == 0:
        return 0.0
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK]
    # Corners first: where they differ, which is nearly everywhere, the rest needn't be read.
    first = blocks[::_BLOCK, ::_BLOCK]
    same = first != 0
    if floor is not None:
        same &= first >= floor
    for top, left in ((0, _BLOCK - 1), (_BLOCK - 1, 0), (_BLOCK - 1, _BLOCK - 1)):
        same &= blocks[top::_BLOCK, left::_BLOCK] == first
    constant = 0
    for row, column, band in np.argwhere(same):
        top, left = row * _BLOCK, column * _BLOCK
        block = blocks[top : top + _BLOCK, left : left + _BLOCK, band]
        constant += bool((block == block[0, 0]).all())
    return constant / same.size
