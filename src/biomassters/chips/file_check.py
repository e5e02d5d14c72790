"""One file of the archive against its metadata and against what it should hold."""

from typing import Any, NamedTuple

import numpy as np

from biomassters.chips.archive_listing import LABEL
from biomassters.chips.bands import SENSORS
from biomassters.chips.cksum import posix_cksum
from biomassters.chips.damage import DamagedFileError, RasterSpec
from biomassters.chips.pixel_facts import PixelFacts, pixel_facts
from biomassters.chips.raster import read_file, view_pixels
from biomassters.chips.storage import State

RIGHT, MISSING, DAMAGED, UNLISTED = "right", "missing", "damaged", "no checksum"
_SPECS = {sensor.name: (len(sensor.bands), np.dtype(sensor.archive_dtype)) for sensor in SENSORS}
_SPECS[LABEL] = (1, np.dtype(np.float32))


class ListedFile(NamedTuple):
    """A file that the metadata list.

    Attributes:
        filename: Its name.
        sensor: ``"s1"``, ``"s2"`` or ``"label"``.
        month: 0 is September; −1 for a label.
        path: Path or URL, ``""`` where it is missing.
        size: Its size in bytes as the metadata say, or None.
        cksum: Its POSIX cksum as the metadata say, or None.
        state: Its state when it was looked for, None where it is missing.
    """

    filename: str
    sensor: str
    month: int
    path: str
    size: int | None
    cksum: int | None
    state: State | None = None


def check_file(
    file: ListedFile, shape: tuple[int, int], data: bytes | None = None
) -> dict[str, Any]:
    """Reads a file once: size, checksum, decoding, values.

    Args:
        file: The file.
        shape: Height and width in pixels that it should have.
        data: Its bytes, where they have been fetched.

    Returns:
        size and cksum as found (None where it can't be read); nan_, nodata_, zero_ and
        constant_block_fraction (None where it can't be decoded); status (``"right"``,
        ``"missing"``, ``"damaged"``, or ``"no checksum"`` where the metadata have none); reason
        (``""`` if nothing is wrong).
    """
    row: dict[str, Any] = {"size": None, "cksum": None, **_facts(None)}
    if not file.path:
        return {**row, "status": MISSING, "reason": "is missing"}
    fault = None
    try:
        view = read_file(file.path, data)
        row |= {"size": len(view), "cksum": posix_cksum(view)}
        fault = transfer_fault(file.size, file.cksum, row["size"], row["cksum"])
        facts = _decode(file, view, shape)
        row |= _facts(facts)
        reason = fault or facts.fault or ""
    except DamagedFileError as error:
        reason = fault or error.reason
    unlisted = file.size is None or file.cksum is None
    status = DAMAGED if reason else UNLISTED if unlisted else RIGHT
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


def _decode(file: ListedFile, data: memoryview, shape: tuple[int, int]) -> PixelFacts:
    bands, dtype = _SPECS[file.sensor]
    values = view_pixels(file.path, data, RasterSpec(bands, dtype, shape))
    return pixel_facts(values, is_label=file.sensor == LABEL)


def _facts(facts: PixelFacts | None) -> dict[str, float | None]:
    names = ("nan_fraction", "nodata_fraction", "zero_fraction", "constant_block_fraction")
    return {name: None if facts is None else getattr(facts, name) for name in names}
