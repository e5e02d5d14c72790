"""What messages are made of: numbers, names and paths as people read them, and no secrets.

``redact`` is for every text that leaves: the console, the run record, MLflow.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

HIDDEN = "***"
CLONE = Path(__file__).parents[2]
"""The project's folder, where the package runs out of one; beside an installed wheel nothing."""

_SHOWN = 16
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SECRETS = (
    # Addresses end at blanks, quotes and brackets; a password may hold any other character.
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"<>]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?'\"<>]*)\?[^\s'\"<>)\],;]+"), rf"\1?{HIDDEN}"),
    # GDAL calls a file by its name alone, which has the address's query.
    (re.compile(r"(\.[A-Za-z0-9]{1,8})\?[^\s?'\"<>)\],;]+=[^\s'\"<>)\],;]*"), rf"\1?{HIDDEN}"),
)
_SECRET_NAME = re.compile(
    r"(password|passwd|secret|token|credential|access_?key|account_?key|api_?key|sas|signature)$",
    re.IGNORECASE,
)


def readable_bytes(count: float) -> str:
    """A number of bytes in the unit that gives it three digits at most, as in ``2.3 MB``."""
    size = float(count)
    for unit in _UNITS:
        # 999.5 would be rounded to 1000 of its unit.
        if abs(size) < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    digits = 0 if unit == "B" or abs(size) >= 99.95 else 1
    return f"{size:.{digits}f} {unit}"


def readable_seconds(seconds: float) -> str:
    """A duration as people say it: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def counted(count: int, one: str) -> str:
    """A number of things: ``1 chip``, ``1,200 chips``."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that libraries append."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" :.")


def shown_path(path: Any) -> str:
    """A path as short as it can be said from here."""
    place, here = Path(str(path)), Path.cwd()
    return str(place.relative_to(here)) if here in place.parents else str(place)


def listed(names: Iterable[object]) -> str:
    """Names in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    *most, last = [str(name) for name in names] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def said_by(error: BaseException) -> str:
    """An error's words in one line; those of its cause, which rasterio leaves out."""
    return " ".join(str(error.__cause__ or error).split()).rstrip(".")


def hint(name: str, known: Collection[str]) -> str:
    """What a misspelt name may have meant: ``did you mean 'x'?``, or names that there are."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = sorted(known)
    if not shown:
        return "there are none at all."
    if len(shown) > _SHOWN:
        shown[_SHOWN - 1 :] = [f"{len(shown) - _SHOWN + 1} more"]
    return f"choose from {listed(shown)}."


def in_clone() -> bool:
    """Whether the package runs out of the project's folder, rather than from a wheel."""
    return (CLONE / "pyproject.toml").is_file()


def installation(extra: str) -> str:
    """The command that installs an extra's packages here, quoted for a sentence."""
    return f"'uv sync --extra {extra}'" if in_clone() else f"\"pip install 'biomassters[{extra}]'\""


def redact(text: str) -> str:
    """A text whose addresses, and files' names out of addresses, have neither login nor query.

    Queries go whole: a signed address has its signature there, under a name of the provider's.

    Examples:
        >>> redact("https://me:word@host/a.tif?sig=abc can't be read")
        "https://***@host/a.tif?*** can't be read"
    """
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return text


def redacted(value: Any) -> Any:
    """The same for every text in nested options; what is named like a secret goes whole."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN
            if inner and isinstance(inner, str) and _SECRET_NAME.search(str(name))
            else redacted(inner)
            for name, inner in value.items()
        }
    return [redacted(inner) for inner in value] if isinstance(value, list | tuple) else value
