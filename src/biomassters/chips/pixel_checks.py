"""Do values look like the unit and the bands that they are said to be?

Asked of the images of a region, of chips that are to be predicted, and of an archive that is
verified: the same answer everywhere.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import (
    CLP_NONE,
    DB,
    REFLECTANCE,
    S1_LEAST_DB,
    S1_NODATA_DB,
    S2,
    SENSOR,
    SENSORS,
)
from biomassters.chips.chip import Chip
from biomassters.chips.ground import GroundPixels
from biomassters.errors import BadInputError

logger = logging.getLogger(__name__)
Values = NDArray[np.floating]

_CLOUDY_PERCENT = 50
_MOST_POWER = 5.0  # linear backscatter of land stays far below
_DB_RANGE = (-80.0, 50.0)
_NEAR_NODATA_DB = 0.9 * S1_NODATA_DB
_MOST_REFLECTANCE = 2.0
_FEWEST_PIXELS = 50
_PIXEL_STEP = 4  # of a chip every fourth row and column is looked at
_GROUND_TOLERANCE = 0.01


class Fault(NamedTuple):
    """What values look like, as the end of a sentence that begins with the image."""

    reason: str
    remedy: str


def image_unit_fault(sensor: str, bands: Mapping[str, Values]) -> Fault | None:
    """What an image's values look like, if that isn't what they should be.

    The unit of the sensor's first band decides what is looked for. Values by band are all of one
    shape [pixels]; NaN where there is no data.
    """
    unit, needed = SENSOR[sensor].table[0].unit, SENSOR[sensor].measured
    if unit == DB:
        return _backscatter_fault(bands)
    return _counts_fault(bands, needed) if unit == REFLECTANCE else None


def check_chip(chip: Chip, pixel_size_m: float, *, warn: bool = False) -> None:
    """Refuse a chip in other units than the network knows; a part of its pixels is looked at.

    Args:
        chip: The chip.
        pixel_size_m: What its pixels must measure on the ground, if it says where it lies.
        warn: Name it where clouds hide all of it in every month.

    Raises:
        BadInputError: With what the values look like and what mends it.
    """
    for sensor in SENSORS:
        exists = chip.present[:, sensor.column]
        there = chip.images[sensor.name][exists, :, ::_PIXEL_STEP, ::_PIXEL_STEP]
        values = there.swapaxes(0, 1).reshape(len(sensor.bands), -1).astype(np.float32)
        fault = image_unit_fault(sensor.name, dict(zip(sensor.bands, values, strict=True)))
        if fault is not None:
            raise BadInputError(
                f"Chip {chip.chip_id}: {sensor.tag} {fault.reason}: {fault.remedy}, or set "
                "inference.check_ranges to false."
            )
    _check_ground(chip, pixel_size_m)
    if warn and not _has_clear_pixel(chip):
        logger.warning(
            "Chip %s has no cloud-free pixel in any month: its map rests on Sentinel-1.",
            chip.chip_id,
        )


def cloudy(cloud_percent: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Whether pixels are cloudy by CLP; without a cloud probability they count as clear."""
    return (cloud_percent > _CLOUDY_PERCENT) & (cloud_percent != CLP_NONE)


def clear_fraction(chip: Chip, month: int) -> float:
    """Share of a month's pixels that Sentinel-2 saw without a cloud."""
    return float((chip.seen(S2.name, month) & ~cloudy(chip.band("CLP")[month])).mean())


def _has_clear_pixel(chip: Chip) -> bool:
    months = np.flatnonzero(chip.present[:, S2.column]).tolist()
    return any(clear_fraction(chip, month) > 0 for month in months)


def _check_ground(chip: Chip, pixel_size_m: float) -> None:
    if chip.georeference is None:
        return
    try:
        ground = GroundPixels(chip.georeference.crs, chip.georeference.transform, *chip.shape)
        sides = ground.sides_m()
    except BadInputError:
        return  # a coordinate system of its own, as of a plot, says nothing of the ground
    if np.abs(sides / pixel_size_m - 1).max() > _GROUND_TOLERANCE:
        width, height = sides[-1]
        raise BadInputError(
            f"Chip {chip.chip_id} has pixels of {width:.2f} x {height:.2f} m on the ground, and "
            f"the network takes them for {pixel_size_m:g} m: reproject it to its UTM zone, or set "
            "inference.check_ranges to false."
        )


def _known(values: Values) -> Values:
    return values[np.isfinite(values)]


def _backscatter_fault(bands: Mapping[str, Values]) -> Fault | None:
    found = np.concatenate([_known(values) for values in bands.values()])
    found = found[found > _NEAR_NODATA_DB]
    if len(found) < _FEWEST_PIXELS:
        return None
    low, high = np.percentile(found, (0.5, 99.5))
    if low >= 0 and high <= _MOST_POWER:
        return Fault("looks like linear power, expected dB", "convert it by 10 log10")
    backscatter = found[found >= S1_LEAST_DB]  # without what resampling has made of nodata
    if 2 * len(backscatter) >= len(found):
        low, high = np.percentile(backscatter, (0.5, 99.5))
    if low < _DB_RANGE[0] or high > _DB_RANGE[1]:
        hundredths = _DB_RANGE[0] * 100 < low and high < _DB_RANGE[1] * 100
        return Fault(
            f"holds values of {low:g} to {high:g}, expected backscatter in dB",
            "divide it by 100 if it is in 0.01 dB" if hundredths else "convert it",
        )
    for orbit in ("asc", "desc"):
        co, cross = bands.get(f"VV_{orbit}"), bands.get(f"VH_{orbit}")
        if co is None or cross is None:
            continue
        both = np.isfinite(co) & np.isfinite(cross) & (co >= S1_LEAST_DB) & (cross >= S1_LEAST_DB)
        # Land and water alike send back less in the other polarization.
        if both.sum() >= _FEWEST_PIXELS and np.median(cross[both] - co[both]) > 0:
            return Fault(
                f"has VH above VV in its {orbit} bands: VV and VH look swapped", "order its bands"
            )
    return None


def _counts_fault(bands: Mapping[str, Values], measured: Sequence[str]) -> Fault | None:
    if not any(name in bands for name in measured):
        return _cloud_fault(bands)
    optical = np.stack([bands[name] for name in measured if name in bands])
    seen = (np.nan_to_num(optical) != 0).any(axis=0)
    found = _known(optical[:, seen])
    if len(found) >= _FEWEST_PIXELS:
        low, high = np.percentile(found, (0.5, 99.5))
        if low < -1:
            return Fault(
                f"holds values down to {low:g}, expected reflectance × 10,000", "convert it"
            )
        if 0 < high <= _MOST_REFLECTANCE:
            return Fault("looks like reflectance 0-1, expected × 10,000", "multiply by 10,000")
        if low == high == np.iinfo(np.uint16).max:
            return Fault(f"holds {low:g} everywhere, expected reflectance × 10,000", "convert it")
    return _cloud_fault(bands) or _order_fault(bands, seen)


def _cloud_fault(bands: Mapping[str, Values]) -> Fault | None:
    if "CLP" not in bands:
        return None
    clouds = _known(bands["CLP"])
    wrong = (clouds < 0) | ((clouds > 100) & (clouds != CLP_NONE))
    if wrong.any():
        return Fault(
            f"holds {clouds[wrong].max():g} in CLP, expected 0 to 100 or 255: its bands look "
            "swapped",
            "order its bands",
        )
    return None


def _order_fault(bands: Mapping[str, Values], seen: NDArray[np.bool_]) -> Fault | None:
    """Neighbouring wavelengths see alike: red edge B7 and the two near infrareds B8 and B8A do."""
    names = ("B7", "B8", "B8A")
    if not bands.keys() >= set(names) or seen.sum() < _FEWEST_PIXELS:
        return None
    red_edge, broad, narrow = (float(np.nanmedian(bands[name][seen])) for name in names)
    if min(red_edge, narrow) > 0 and not 0.6 < broad / (0.5 * (red_edge + narrow)) < 1.6:
        return Fault(
            f"has a median of {broad:g} in B8 but {red_edge:g} in B7 and {narrow:g} in B8A: its "
            "bands look swapped",
            "order its bands",
        )
    return None
