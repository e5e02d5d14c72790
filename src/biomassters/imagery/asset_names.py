"""Names of bands as files and items write them, and the names that they have here."""

import re

from biomassters.chips.bands import BAND_NAMES, S2

SCENE_CLASSES = "SCL"
CLOUD_PROBABILITY = "CLP"

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
