"""One file of the archive against its metadata and against what it should hold."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.metadata import LABEL
from biomassters.chips.bands import S1, S1_NODATA_DB, SENSORS
from biomassters.chips.pixel_checks import image_unit_fault
from biomassters.chips.quality.pixel_facts import PixelFacts, pixel_facts
from biomassters.io.checksum import posix_cksum
from biomassters.io.raster import read_file, view_pixels
from biomassters.io.raster_spec import DamagedFileError, RasterSpec
from biomassters.io.storage import State

RIGHT, MISSING, DAMAGED, UNLISTED = "right", "missing", "damaged", "no checksum"
_SPECS = {sensor.name: (len(sensor.bands), np.dtype(sensor.archive_dtype)) for sensor in SENSORS}
_SPECS[LABEL] = (1, np.dtype(np.float32))
_MOST_AGB = 100_000.0  # Mg/ha: ten times what the tallest forests hold


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
    fault, unlisted = None, file.size is None or file.cksum is None
    try:
        view = read_file(file.path, data)
        row |= {"size": len(view), "cksum": posix_cksum(view)}
        fault = transfer_fault(file.size, file.cksum, row["size"], row["cksum"])
        values = _decode(file, view, shape)
        facts = pixel_facts(values, is_label=file.sensor == LABEL)
        row |= _facts(facts)
        reason = fault or facts.fault or (_unit_fault(file.sensor, values) if unlisted else "")
    except DamagedFileError as error:
        reason = fault or error.reason
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


def _decode(file: ListedFile, data: memoryview, shape: tuple[int, int]) -> NDArray:
    bands, dtype = _SPECS[file.sensor]
    return view_pixels(file.path, data, RasterSpec(bands, dtype, shape))


def _unit_fault(sensor: str, values: NDArray) -> str:
    """Without a checksum only the values themselves can say that they are no image."""
    if sensor == LABEL:
        most = float(values.max())
        return f"holds {most:g} Mg/ha, more than any forest" if most > _MOST_AGB else ""
    names = next(one.bands for one in SENSORS if one.name == sensor)
    pixels = values.reshape(len(names), -1).astype(np.float32)
    if sensor == S1.name:
        pixels[pixels == S1_NODATA_DB] = np.nan
    fault = image_unit_fault(sensor, dict(zip(names, pixels, strict=True)))
    return "" if fault is None else f"{fault.reason}: {fault.remedy}"


def _facts(facts: PixelFacts | None) -> dict[str, float | None]:
    names = ("nan_fraction", "nodata_fraction", "zero_fraction", "constant_block_fraction")
    return {name: None if facts is None else getattr(facts, name) for name in names}
