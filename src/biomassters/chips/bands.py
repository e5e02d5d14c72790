"""The one table of sensors, bands, units, scaling and month names.

Statistics, stores and weights refer to bands by name, never by position.

The order of bands and the meaning of the values are those of the BioMassters archive
(Nascetti et al., NeurIPS 2023 Datasets and Benchmarks). The reference minima and maxima
are the min-max constants of the challenge's first place (MIT licence); nothing is clipped
to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

MONTH_NAMES = (
    "September", "October", "November", "December", "January", "February",
    "March", "April", "May", "June", "July", "August",
)  # fmt: skip
MONTH_COUNT = len(MONTH_NAMES)


@dataclass(frozen=True)
class Band:
    """One band; the reference scaling maps its minimum to 0, its maximum to 1."""

    name: str
    unit: str
    reference_min: float
    reference_max: float
    description: str
    # Of a band that describes a pixel and measures nothing in it, such as a cloud probability: the
    # value where there is none. It doesn't tell whether the pixel was seen, keeps the reference
    # scaling, and is taken from the nearest pixel, never averaged.
    none: int | None = None


@dataclass(frozen=True)
class Sensor:
    """One satellite, by all that the package knows of it: a row of ``SENSORS``.

    What holds no data is said in one of two ways. With a ``floor`` each value says so itself, by
    lying below it; without, a pixel that is 0 in every band that measures was never seen.
    """

    # Of its images wherever they are held, and of its array in a store; in upper case in names of
    # files and in metadata.
    name: str
    title: str  # what people call it
    table: tuple[Band, ...]  # its bands in file order, those that measure first
    # Type of the archive's TIFFs: floats, with a floor, or unsigned integers, which are packed as
    # they are.
    archive_dtype: np.dtype
    packed_dtype: np.dtype  # 16-bit integers of stores and batches; their least value is no data
    cf_name: str  # ``long_name`` of its array in a store
    groups: tuple[tuple[str, ...], ...]  # neighbouring bands that hold data together or not at all
    scale: float = 1.0  # what a packed integer is worth in the bands' unit
    nodata: float = 0.0  # value in an archive's image of what has no data
    floor: float | None = None  # least value that is data, in the bands' unit
    # Whether it sees every month, so that one without an image is incomplete.
    every_month: bool = False
    cf_units: str = "1"  # its ``units``
    cf_comment: str = ""  # its ``comment``
    band_axis: str = "Band"  # what its bands differ in

    @property
    def tag(self) -> str:
        """As in names of files and in metadata: ``"S1"``."""
        return self.name.upper()

    @cached_property
    def column(self) -> int:
        """Where it stands in what has an entry a sensor, such as ``Chip.present``."""
        return SENSORS.index(self)

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Names of its bands, in file order."""
        return tuple(band.name for band in self.table)

    @cached_property
    def measured(self) -> tuple[str, ...]:
        """Names of those that measure: the first ones."""
        return tuple(band.name for band in self.table if band.none is None)

    @cached_property
    def fill(self) -> int:
        """The packed integer that means no data."""
        return int(np.iinfo(self.packed_dtype).min)

    @cached_property
    def steps_per_unit(self) -> int:
        """Packed integers in one of the bands' unit."""
        return round(1 / self.scale)

    def seen(self, images: NDArray) -> NDArray[np.bool_]:
        """Bool [..., H, W] of images in the archive's unit: pixels with data in any band."""
        most = images[..., : len(self.measured), :, :].max(axis=-3)
        return np.asarray(most > 0 if self.floor is None else most >= self.floor)

    def has_data(self, images: NDArray) -> NDArray[np.bool_]:
        """Bool [..., bands, H, W] of images in the archive's unit: which pixels hold data."""
        if self.floor is not None:
            return images >= self.floor
        found = np.repeat(self.seen(images)[..., None, :, :], len(self.bands), axis=-3)
        for number, band in enumerate(self.table):
            if band.none is not None:
                found[..., number, :, :] &= images[..., number, :, :] != band.none
        return found

    def pack(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images in the archive's type and unit → the integers of stores and batches.

        Floats below the floor, or not finite, are no data.

        Returns:
            The packed type, of the same shape, C-contiguous, at most half a step off (0.005 dB);
            ``fill`` where there is no data. Values beyond the type's range (above 327.67 dB) are
            clipped.
        """
        if self.floor is None:
            return np.ascontiguousarray(images, self.packed_dtype)
        with np.errstate(over="ignore"):
            steps = np.rint(images * np.float32(self.steps_per_unit))
        nodata = (images < np.float32(self.floor)) | ~np.isfinite(steps)
        most = np.iinfo(self.packed_dtype).max
        np.clip(steps, -most, most, out=steps)
        steps[nodata] = self.fill
        return steps.astype(self.packed_dtype, order="C")

    def unpack(self, steps: NDArray[Any]) -> NDArray[Any]:
        """Undo ``pack``: the archive's type and unit, ``nodata`` where there is no data."""
        if self.floor is None:
            return steps
        images = steps.astype(self.archive_dtype) / np.float32(self.steps_per_unit)
        images[steps == self.fill] = self.nodata
        return images


DB = "dB"
REFLECTANCE = "reflectance x 10000"

S1_NODATA_DB = -9999.0
# No backscatter is that low (Sentinel-1's own noise lies near −25 dB): what is below is no data,
# too, such as a −9999 that resampling has mixed with its neighbours.
S1_LEAST_DB = -100.0
CLP_NONE = 255

S1 = Sensor(
    "s1",
    "Sentinel-1",
    (
        Band("VV_asc", DB, -25.0, 29.0, "Backscatter VV, ascending orbit"),
        Band("VH_asc", DB, -62.0, 28.0, "Backscatter VH, ascending orbit"),
        Band("VV_desc", DB, -25.0, 30.0, "Backscatter VV, descending orbit"),
        Band("VH_desc", DB, -60.0, 22.0, "Backscatter VH, descending orbit"),
    ),
    archive_dtype=np.dtype("float32"),
    # At most 0.005 dB off, far below speckle.
    packed_dtype=np.dtype("<i2"),
    scale=0.01,
    nodata=S1_NODATA_DB,
    floor=S1_LEAST_DB,
    groups=(("VV_asc", "VH_asc"), ("VV_desc", "VH_desc")),
    every_month=True,
    cf_name="Sentinel-1 backscatter",
    cf_units="dB",
    band_axis="Polarization and orbit",
)
S2 = Sensor(
    "s2",
    "Sentinel-2",
    (
        Band("B2", REFLECTANCE, 0.0, 19616.0, "Blue, 490 nm"),
        Band("B3", REFLECTANCE, 0.0, 18400.0, "Green, 560 nm"),
        Band("B4", REFLECTANCE, 0.0, 17536.0, "Red, 665 nm"),
        Band("B5", REFLECTANCE, 0.0, 17097.0, "Red edge, 705 nm"),
        Band("B6", REFLECTANCE, 0.0, 16928.0, "Red edge, 740 nm"),
        Band("B7", REFLECTANCE, 0.0, 16768.0, "Red edge, 783 nm"),
        Band("B8", REFLECTANCE, 0.0, 16593.0, "Near infrared, 842 nm"),
        Band("B8A", REFLECTANCE, 0.0, 16492.0, "Narrow near infrared, 865 nm"),
        Band("B11", REFLECTANCE, 0.0, 15401.0, "Shortwave infrared, 1610 nm"),
        Band("B12", REFLECTANCE, 0.0, 15226.0, "Shortwave infrared, 2190 nm"),
        Band("CLP", "percent", 0.0, 255.0, "Cloud probability, 0-100", none=CLP_NONE),
    ),
    archive_dtype=np.dtype("uint16"),
    packed_dtype=np.dtype("<u2"),
    groups=(("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),),
    cf_name="Sentinel-2 reflectance times 10000, and cloud probability",
    cf_comment="Bands B2 to B12: reflectance times 10000. CLP: cloud probability in percent, "
    "255 where there is none. 0 throughout in a month without an image, see present.",
)
SENSORS = (S1, S2)
"""A further one goes last: what is there keeps its place in archives, stores and weights."""

SENSOR = {sensor.name: sensor for sensor in SENSORS}
SENSOR_OF_BAND = {band: sensor for sensor in SENSORS for band in sensor.bands}
BANDS = tuple(band for sensor in SENSORS for band in sensor.table)
BAND = {band.name: band for band in BANDS}
BAND_NAMES = tuple(BAND)

OPTICAL_RANGE = np.repeat([0, 1, 2, 3], [3, 1, 4, 2])
"""Of Sentinel-2's reflectances in order: 0 visible, 1 red edge, 2 near infrared, 3 shortwave."""


def channels(bands: Sequence[str]) -> slice:
    """Where neighbouring bands lie among all of them."""
    return slice(BAND_NAMES.index(bands[0]), BAND_NAMES.index(bands[-1]) + 1)


# BioMassters chips carry no georeference: their pixels are taken for squares of 10 m, as Nascetti
# et al. state them. A chip that has one is refused by ``pixel_checks`` if its pixels differ; pixels
# of regions are measured one by one (``ground``).
PIXEL_SIZE_M = 10.0
PIXEL_HA = PIXEL_SIZE_M**2 / 10_000
