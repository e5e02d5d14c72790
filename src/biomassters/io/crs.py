"""Coordinate systems that files and parameters name.

PROJ would fetch a definition from an address, and read one from a file: only codes and
definitions are understood here.
"""

import json
import re
from typing import Any

from biomassters.errors import BadInputError

_CODE = re.compile(r"(EPSG|ESRI|IGNF|OGC):\w+|urn:ogc:def:crs:[\w.:,-]+", re.IGNORECASE)
_WKT = re.compile(
    r"\s*(PROJCS|GEOGCS|COMPD_CS|GEOCCS|LOCAL_CS|(BASE)?(PROJ|GEOG|GEOD|COMPOUND|BOUND|ENG)\w*CRS"
    r"|GEODETICCRS|GEOGRAPHICCRS)\s*\[",
    re.IGNORECASE,
)
_LONGEST = 100_000


def parse_crs(text: Any, what: str) -> Any:
    """A coordinate system.

    Args:
        text: ``EPSG:…``, ``OGC:…``, ``urn:ogc:def:crs:…``, WKT or PROJJSON.
        what: Who names it, for the message.

    Returns:
        ``rasterio.crs.CRS``.

    Raises:
        BadInputError: It is none of these, or unknown.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        if isinstance(text, dict):
            text = json.dumps(text)
        text = str(text)
        known = _CODE.fullmatch(text) or _WKT.match(text) or text.lstrip().startswith("{")
        if known and len(text) <= _LONGEST:
            return CRS.from_user_input(text)
    except (CRSError, ValueError, RecursionError, TypeError):
        pass
    shown = str(text) if len(str(text)) <= 80 else f"{str(text)[:77]}..."
    raise BadInputError(f"{what}: {shown} is no coordinate system; try one such as EPSG:3067.")
