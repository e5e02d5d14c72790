"""Read one chip from its files: months stacked, values checked."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, S1, S1_NODATA_DB, S2, SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.pixel_checks import image_unit_fault
from biomassters.io.raster import read_georeference, read_raster, read_raster_into
from biomassters.io.raster_spec import DamagedFileError, Georeference, image_fault, label_fault
from biomassters.io.storage import fetch

OnDamage = Callable[[DamagedFileError], None]
_SENSOR_NAMES = tuple(sensor.name for sensor in SENSORS)


@dataclass(frozen=True)
class ChipFiles:
    """Files of one chip that exist.

    Attributes:
        chip_id: Name of the chip.
        split: ``"train"`` or ``"test"``.
        images: Path or URL of each image, by sensor and month.
        label: Path or URL of the label, or None.
    """

    chip_id: str
    split: str
    images: dict[tuple[str, int], str]
    label: str | None

    def without(self, names: Collection[str]) -> "ChipFiles":
        """The files that have other names."""
        kept = {key: path for key, path in self.images.items() if _name(path) not in names}
        label = None if self.label is None or _name(self.label) in names else self.label
        return ChipFiles(self.chip_id, self.split, kept, label)


def read_chip_files(
    files: ChipFiles, shape: tuple[int, int], on_damage: OnDamage | None = None
) -> Chip:
    """Reads one chip.

    Args:
        files: Its files.
        shape: Height and width in pixels that each must have.
        on_damage: Called with each damaged file, which then counts as absent; None raises.

    Raises:
        DamagedFileError: At the first damaged file, without ``on_damage``.
    """
    s1_db = np.empty((MONTH_COUNT, len(S1.bands), *shape), S1.archive_dtype)
    s2 = np.zeros((MONTH_COUNT, len(S2.bands), *shape), S2.archive_dtype)
    present = np.zeros((MONTH_COUNT, len(SENSORS)), bool)
    fetched = fetch([*files.images.values(), *filter(None, (files.label,))])
    located = None
    for (sensor, month), path in files.images.items():
        image = (s1_db if sensor == S1.name else s2)[month]
        try:
            if _read_image(path, image, fetched.get(path)):
                located = path
        except DamagedFileError as error:
            _report(error, on_damage)
            image[:] = 0  # it may be half read
        else:
            present[month, _SENSOR_NAMES.index(sensor)] = True
    s1_db[~present[:, 0]] = S1_NODATA_DB
    label, label_located = _read_label(files.label, shape, fetched, on_damage)
    georeference = _first_georeference(located, label_located)
    return Chip(files.chip_id, files.split, s1_db, s2, present, label, georeference)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _read_image(path: str, out: NDArray, data: bytes | None) -> bool:
    try:
        located = read_raster_into(path, out, data)
    except DamagedFileError as error:
        raise _in_another_unit(path, out) or error from None
    fault = image_fault(out)
    if fault is not None:
        raise DamagedFileError(path, fault)
    return located


def _in_another_unit(path: str, out: NDArray) -> DamagedFileError | None:
    """Why a file that can be read is of another type: to fetch it again wouldn't help."""
    try:
        values, _ = read_raster(path)
    except DamagedFileError:
        return None
    sensor = S1 if len(out) == len(S1.bands) else S2
    if values.shape != out.shape or values.dtype == out.dtype:
        return None
    bands = dict(zip(sensor.bands, values.astype(np.float32), strict=True))
    fault = image_unit_fault(sensor.name, {name: band.ravel() for name, band in bands.items()})
    if fault is None:
        return None
    remedy = f"{fault.remedy} and save it as {sensor.archive_dtype.name}"
    return DamagedFileError(path, f"{fault.reason} as {sensor.archive_dtype.name}", remedy)


def _read_label(
    path: str | None,
    shape: tuple[int, int],
    fetched: Mapping[str, bytes],
    on_damage: OnDamage | None,
) -> tuple[NDArray[np.float32] | None, str | None]:
    """The label [H, W] and the path if it says where it lies."""
    if path is None:
        return None, None
    label = np.empty(shape, np.float32)
    try:
        located = read_raster_into(path, label[None], fetched.get(path))
        fault = label_fault(label)
        if fault is not None:
            raise DamagedFileError(path, fault)
    except DamagedFileError as error:
        _report(error, on_damage)
        return None, None
    return label, path if located else None


def _first_georeference(*paths: str | None) -> Georeference | None:
    found = (read_georeference(path) for path in paths if path is not None)
    return next((georeference for georeference in found if georeference is not None), None)


def _report(error: DamagedFileError, on_damage: OnDamage | None) -> None:
    if on_damage is None:
        raise error
    on_damage(error)
