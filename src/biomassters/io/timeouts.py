"""How long an address may stay silent, in one place for GDAL, object storage and the web.

A server that accepts a connection and never answers would keep a run waiting for ever.
"""

import os
from typing import Any

CONNECT_S = 10
_READ_S = 60


def read_s() -> float:
    """Seconds that an answer may take; the variable BIOMASSTERS_TIMEOUT_S sets another number."""
    try:
        return max(1.0, float(os.environ["BIOMASSTERS_TIMEOUT_S"]))
    except (KeyError, ValueError):
        return _READ_S


def connect_s() -> float:
    """Seconds until a server accepts a connection."""
    return min(CONNECT_S, read_s())


def gdal_settings() -> dict[str, Any]:
    """For ``rasterio.Env``."""
    return {
        "GDAL_HTTP_CONNECTTIMEOUT": f"{connect_s():g}",
        "GDAL_HTTP_TIMEOUT": f"{read_s():g}",
        # Credentials stay with the server that they are for.
        "CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT": "IF_SAME_HOST",
    }


def client_options() -> dict[str, str]:
    """For obstore."""
    return {"connect_timeout": f"{connect_s():g}s", "timeout": f"{read_s():g}s"}
