"""Secrets out of every text that leaves: the console, the run record, MLflow."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# Addresses end at blanks, quotes and brackets; a password may hold any other character.
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"<>]+@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?'\"<>]*)\?[^\s'\"<>)\],;]+")
# GDAL calls a file by its name alone, which has the address's query.
_FILE_QUERY = re.compile(r"(\.[A-Za-z0-9]{1,8})\?[^\s?'\"<>)\],;]+=[^\s'\"<>)\],;]*")
_SECRET_NAME = re.compile(
    r"(password|passwd|secret|token|credential|access_?key|account_?key|api_?key|sas|signature)$",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """A text whose addresses, and files' names out of addresses, have neither login nor query.

    Queries go whole: a signed address has its signature there, under a name of the provider's.

    >>> redact("https://me:word@host/a.tif?sig=abc can't be read")
    "https://***@host/a.tif?*** can't be read"
    """
    for secret, shown in (
        (_LOGIN, rf"\1{HIDDEN}@"),
        (_QUERY, rf"\1?{HIDDEN}"),
        (_FILE_QUERY, rf"\1?{HIDDEN}"),
    ):
        text = secret.sub(shown, text)
    return text


def redacted(value: Any) -> Any:
    """The same for every text in nested options; what is named like a secret goes whole."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if inner and _names_secret(name, inner) else redacted(inner)
            for name, inner in value.items()
        }
    return [redacted(inner) for inner in value] if isinstance(value, list | tuple) else value


def _names_secret(name: Any, value: Any) -> bool:
    return isinstance(value, str) and _SECRET_NAME.search(str(name)) is not None
