"""The one table of sensors, bands, units, scaling and month names.

Statistics, stores and weights refer to bands by name, never by position.

The order of bands and the meaning of the values are those of the BioMassters archive
(Nascetti et al., NeurIPS 2023 Datasets and Benchmarks). The reference minima and maxima
are the min-max constants of the challenge's first place (MIT licence); nothing is clipped
to them.
"""

from dataclasses import dataclass

import numpy as np

MONTH_NAMES = (
    "September",
    "October",
    "November",
    "December",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
)
MONTH_COUNT = len(MONTH_NAMES)


@dataclass(frozen=True)
class Band:
    """One of the 15 bands; the reference scaling maps its minimum to 0, its maximum to 1."""

    name: str
    sensor: str
    unit: str
    reference_min: float
    reference_max: float
    description: str


_DB = "dB"
_REFLECTANCE = "reflectance x 10000"

BANDS = (
    Band("VV_asc", "s1", _DB, -25.0, 29.0, "Backscatter VV, ascending orbit"),
    Band("VH_asc", "s1", _DB, -62.0, 28.0, "Backscatter VH, ascending orbit"),
    Band("VV_desc", "s1", _DB, -25.0, 30.0, "Backscatter VV, descending orbit"),
    Band("VH_desc", "s1", _DB, -60.0, 22.0, "Backscatter VH, descending orbit"),
    Band("B2", "s2", _REFLECTANCE, 0.0, 19616.0, "Blue, 490 nm"),
    Band("B3", "s2", _REFLECTANCE, 0.0, 18400.0, "Green, 560 nm"),
    Band("B4", "s2", _REFLECTANCE, 0.0, 17536.0, "Red, 665 nm"),
    Band("B5", "s2", _REFLECTANCE, 0.0, 17097.0, "Red edge, 705 nm"),
    Band("B6", "s2", _REFLECTANCE, 0.0, 16928.0, "Red edge, 740 nm"),
    Band("B7", "s2", _REFLECTANCE, 0.0, 16768.0, "Red edge, 783 nm"),
    Band("B8", "s2", _REFLECTANCE, 0.0, 16593.0, "Near infrared, 842 nm"),
    Band("B8A", "s2", _REFLECTANCE, 0.0, 16492.0, "Narrow near infrared, 865 nm"),
    Band("B11", "s2", _REFLECTANCE, 0.0, 15401.0, "Shortwave infrared, 1610 nm"),
    Band("B12", "s2", _REFLECTANCE, 0.0, 15226.0, "Shortwave infrared, 2190 nm"),
    Band("CLP", "s2", "percent", 0.0, 255.0, "Cloud probability, 0-100; 255 where there is none"),
)
BAND_NAMES = tuple(band.name for band in BANDS)


@dataclass(frozen=True)
class Sensor:
    """One of the two satellites.

    Attributes:
        name: ``"s1"`` or ``"s2"``, also the store's array name.
        file_tag: ``"S1"`` or ``"S2"``, as in file names and metadata.
        bands: Names of its bands, in file order.
        archive_dtype: Type of the archive's TIFFs.
    """

    name: str
    file_tag: str
    bands: tuple[str, ...]
    archive_dtype: np.dtype


S1_NODATA_DB = -9999.0
# No backscatter is that low (Sentinel-1's own noise lies near −25 dB): what is below is no data,
# too, such as a −9999 that resampling has mixed with its neighbours.
S1_LEAST_DB = -100.0
CLP_NONE = 255

S1 = Sensor("s1", "S1", BAND_NAMES[:4], np.dtype("float32"))
S2 = Sensor("s2", "S2", BAND_NAMES[4:], np.dtype("uint16"))
SENSORS = (S1, S2)

# Sentinel-1 is stored as integers of 0.01 dB: at most 0.005 dB off, far below speckle.
S1_STORE_SCALE_DB = 0.01
S1_STORE_FILL = -32768

# BioMassters chips carry no georeference: their pixels are taken for squares of 10 m, as Nascetti
# et al. state them. A chip that has one is refused by ``pixel_checks`` if its pixels differ; pixels
# of regions are measured one by one (``ground``).
PIXEL_SIZE_M = 10.0
PIXEL_HA = PIXEL_SIZE_M**2 / 10_000
