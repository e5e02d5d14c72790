"""Which band is which, by the names that files carry."""

import re

from biomassters.chips.bands import BAND_NAMES, S2, SENSOR
from biomassters.errors import BadInputError

SCENE_CLASSES = "SCL"
CLOUD_PROBABILITY = "CLP"
# Sen2Cor's classes (Sentinel-2 Level-2A ATBD): 8 and 9 are clouds of medium (35 to 65 %) and high
# (above 65 %) probability, 10 thin cirrus; 0 is no data, 1 saturated or defective.
SCENE_NODATA = (0, 1)
SCENE_CLOUDS_PERCENT = {8: 50.0, 9: 90.0, 10: 50.0}

_ORBITS = {"asc": "asc", "ascending": "asc", "desc": "desc", "dsc": "desc", "descending": "desc"}
_COMMON = {
    "blue": "B2", "green": "B3", "red": "B4", "rededge1": "B5", "rededge2": "B6",
    "rededge3": "B7", "nir": "B8", "nir08": "B8A", "swir16": "B11", "swir22": "B12",
    "scl": SCENE_CLASSES, "clp": CLOUD_PROBABILITY, "cldprb": CLOUD_PROBABILITY,
    "cloudprobability": CLOUD_PROBABILITY,
}  # fmt: skip


def canonical_name(text: str, orbit: str | None = None) -> str | None:
    """The table's name of a band that a file calls somehow, or None.

    Args:
        text: As in ``VV_asc``, ``vh descending``, ``B02``, ``b8a``, ``nir``, ``SCL``.
        orbit: Of the whole file, for names that hold only a polarization.
    """
    if text in BAND_NAMES:
        return text
    words = re.findall(r"[a-z]+|\d+", text.lower())
    plain = "".join(words)
    polarization = next((word for word in words if word in ("vv", "vh")), None)
    if polarization is not None:
        side = next((_ORBITS[word] for word in words if word in _ORBITS), orbit)
        return None if side is None else f"{polarization.upper()}_{side}"
    if plain in _COMMON:
        return _COMMON[plain]
    number = re.fullmatch(r"b0?(\d{1,2}a?)", plain)
    name = f"B{number.group(1).upper()}" if number else ""
    return name if name in S2.bands else None


def file_bands(sensor: str) -> tuple[str, ...]:
    """Names of the bands that are used of a sensor's files."""
    return SENSOR[sensor].bands + ((SCENE_CLASSES,) if sensor == S2.name else ())


def match_bands(
    path: str, sensor: str, found: tuple[str, ...], stated: tuple[str, ...]
) -> dict[str, int]:
    """Numbers of the bands that are used, from 1, by name.

    Args:
        path: For messages.
        sensor: Its name.
        found: What the file calls its bands, empty texts where it doesn't.
        stated: Names in order, for a file that says nothing.

    Raises:
        BadInputError: A stated order of another length, a name twice, or a band missing.
    """
    known = file_bands(sensor)
    names = [canonical_name(text) for text in found]
    if not any(name in known for name in names):
        if len(stated) != len(found):
            raise BadInputError(
                f"{path} has {len(found)} bands without a known description, but "
                f"mapping.images.{sensor}_bands lists {len(stated)}: list its bands in their order."
            )
        names = [canonical_name(text) for text in stated]
        if unknown := [text for text, name in zip(stated, names, strict=True) if name not in known]:
            raise BadInputError(
                f"mapping.images.{sensor}_bands: there is no band {unknown[0]!r}; the names are "
                f"{', '.join(known)}."
            )
    numbers: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name in numbers:
            raise BadInputError(f"{path} holds band {name} twice: rename or remove one.")
        if name is not None and name in known:
            numbers[name] = number
    return numbers


def require_bands(what: str, sensor: str, bands: set[str]) -> None:
    """Refuse an image that lacks what the network can't do without.

    Raises:
        BadInputError: Every band is missing, or one whose absence would look like a pixel of 0.
    """
    needed = SENSOR[sensor].measured if SENSOR[sensor].floor is None else ()
    missing = [name for name in needed if name not in bands]
    if missing or not bands:
        raise BadInputError(
            f"{what} lacks {', '.join(missing) or 'every band'}: describe its bands by name, or "
            f"list them in mapping.images.{sensor}_bands."
        )
