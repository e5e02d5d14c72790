"""From what catalogues serve to reflectance × 10,000, cloud percent and dB: rules, and no I/O.

Since processing baseline 04.00 (25 January 2022) Level-2A holds reflectance × 10,000 + 1,000
(sentinels.copernicus.eu, "Sentinel-2 Products Specification", RADIO_ADD_OFFSET). Some catalogues
have taken the 1,000 off, some say so, some say so wrongly: what the metadata state is checked
against the blue band.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import CLP_NONE, S1_LEAST_DB

Values = NDArray[np.float32]
Counts = NDArray[np.uint16]
Classes = NDArray[np.uint8]

SHIFT = 1000  # counts
_SHIFTED_SINCE = 4.0  # processing baseline
_DARK_SHARE = 0.2  # of known blue pixels; more below the shift than this, and it is off already
_FLOOR_SHARE = 0.001  # fewer dark ones than this in plants and water, and it is still there
_FEWEST = 200  # pixels that say anything
# Sen2Cor's classes (Sentinel-2 Level-2A ATBD): 8 and 9 are clouds of medium (35 to 65 %) and high
# (above 65 %) probability, 10 thin cirrus, 3 cloud shadow; 0 is no data, 1 saturated or defective.
SCENE_NODATA = (0, 1)
SCENE_CLOUDS_PERCENT = {8: 50.0, 9: 90.0, 10: 50.0}
_SHADOW = 3
_PLANTS_AND_WATER = (4, 6)  # dark in the blue whatever the season, unlike snow, clouds and sand
CLEAR_PERCENT = 49
# Sentinel-1's own noise lies near −25 dB; zeros and what resampling has made of them far below.
_BORDER_DB = -40.0


@dataclass(frozen=True)
class Offset:
    """Counts to be taken off every known pixel.

    Attributes:
        counts: 0 or 1,000, rarely another number; None: nobody says.
        gain: Factor afterwards.
        why: Where that is known from.
        certain: Whether no pixel is asked: products before baseline 04.00 have none, whatever snow
            looks like.
    """

    counts: float | None
    gain: float
    why: str
    certain: bool = False


UNSTATED = Offset(None, 1.0, "neither baseline nor offset stated")


def stated_offset(
    flag: Any, baseline: float | None, scale: float | None, offset: float | None
) -> Offset:
    """What metadata say of the offset.

    Args:
        flag: The catalogue's own word on whether it is off already; None: it has none.
        baseline: Of processing, as in 5.09.
        scale: Reflectance a count, of item or file.
        offset: Reflectance of count 0, of item or file.
    """
    gain = 1.0 if scale is None or scale == 1 else scale * 10_000
    if flag is True:
        return Offset(0.0, gain, "the catalogue has taken the offset off")
    if baseline is not None and baseline < _SHIFTED_SINCE:
        return Offset(0.0, gain, f"baseline {baseline:05.2f} has no offset", certain=True)
    if offset is not None and (offset or scale not in (None, 1)):
        counts = -offset / (scale or 1.0)
        return Offset(float(round(counts, 3)), gain, f"stated offset of {offset:g}")
    if baseline is not None:
        return Offset(float(SHIFT), gain, f"baseline {baseline:05.2f}")
    if offset is not None:
        return Offset(0.0, gain, "stated offset of 0")
    return Offset(None, gain, UNSTATED.why)


def checked_offset(
    stated: Offset, blue: Counts, classes: Classes | None
) -> tuple[Offset, str | None]:
    """Metadata against pixels.

    Args:
        stated: What the metadata say.
        blue: Counts of B2 as they are in the file, uint16 [h, w], 0: no data; a coarse look does.
        classes: Of the same pixels, or None.

    Returns:
        What holds, and the contradiction in words, or None. Snow, clouds and too few pixels can't
        be judged: then the metadata hold, also where they say nothing.
    """
    known = blue[blue > 0]
    if known.size < _FEWEST:
        return stated, None
    dark = float((known < SHIFT).mean())
    if dark > _DARK_SHARE:
        found = Offset(0.0, stated.gain, f"{dark:.0%} of blue counts lie below {SHIFT:,}")
        wrong = stated.counts is not None and stated.counts >= SHIFT / 2
        return (found if stated.counts is None or wrong else stated), (
            f"{stated.why}, but {dark:.0%} of its blue counts lie below {SHIFT:,}: the offset is "
            "off already"
            if wrong
            else None
        )
    if stated.counts == 0 and not stated.certain and classes is not None:
        ground = blue[(blue > 0) & np.isin(classes, _PLANTS_AND_WATER)]
        if ground.size >= _FEWEST and (ground < SHIFT).mean() < _FLOOR_SHARE:
            why = f"no blue count of plants or water lies below {SHIFT:,}"
            return Offset(
                float(SHIFT), stated.gain, why
            ), f"{stated.why}, but {why}: it is still there"
    return stated, None


def reflectance(counts: Counts, offset: Offset) -> Counts:
    """Reflectance × 10,000 of counts; 0 stays no data, and what is known is at least 1."""
    shift = offset.counts or 0.0
    if offset.gain == 1 and shift == int(shift) and shift >= 0:
        raised = np.maximum(counts, np.uint16(int(shift) + 1))
        raised -= np.uint16(int(shift))
    else:
        values = np.rint((counts.astype(np.float32) - np.float32(shift)) * np.float32(offset.gain))
        raised = np.clip(values, 1, np.iinfo(np.uint16).max).astype(np.uint16)
    raised[counts == 0] = 0
    return raised


def clear_sky(classes: Classes, clouds: NDArray[Any] | None) -> NDArray[np.bool_]:
    """Pixels with data that neither cloud nor its shadow hides.

    Args:
        classes: Scene classification.
        clouds: Cloud probability in percent, where it is served.
    """
    table = np.ones(256, bool)
    table[[*SCENE_NODATA, _SHADOW, *SCENE_CLOUDS_PERCENT]] = False
    clear = table[classes]
    return clear if clouds is None else clear & (clouds <= CLEAR_PERCENT)


def cloud_percent(classes: Classes) -> NDArray[np.uint16]:
    """CLP as far as scene classes tell it; 255 where they have no data."""
    table = np.zeros(256, np.uint16)
    for number, percent in SCENE_CLOUDS_PERCENT.items():
        table[number] = percent
    table[list(SCENE_NODATA)] = CLP_NONE
    return table[classes]


def radar_unit(values: Values) -> str:
    """``"dB"`` or ``"power"``: most backscatter of land is negative in dB, and power never is.

    A percentile of the bright end would take a town, 0.6 % of pixels above 5, for dB.
    """
    known = values[np.isfinite(values)]
    return "dB" if known.size and (known < 0).mean() > 0.5 else "power"


def radar_power(values: Values, unit: str) -> Values:
    """Power, in place; NaN where there is none, and beyond a scene's border."""
    with np.errstate(over="ignore", invalid="ignore"):
        if unit == "dB":
            values[values < S1_LEAST_DB] = np.nan
            np.power(np.float32(10), values / np.float32(10), out=values)
        values[~(values > np.float32(10 ** (_BORDER_DB / 10)))] = np.nan
    return values


def sigma0_factor(incidence_deg: float | None) -> float:
    """What makes sigma0 of gamma0: the cosine of the incidence angle; 1 where none is known.

    Small (2011), IEEE Trans. Geosci. Remote Sens. 49:3081.
    """
    return 1.0 if incidence_deg is None else float(np.cos(np.deg2rad(incidence_deg)))
