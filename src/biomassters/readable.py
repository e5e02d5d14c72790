"""Numbers and names as people read them, in messages; needs nothing else of the project."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_SHOWN = 16
_UNITS = ("B", "kB", "MB", "GB", "TB")


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


def listed(names: Iterable[object]) -> str:
    """Names in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    *most, last = [str(name) for name in names] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def hint(name: str, known: Collection[str]) -> str:
    """What a misspelt name may have meant: ``did you mean 'x'?``, or names that there are."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = sorted(known)
    if len(shown) > _SHOWN:
        shown[_SHOWN - 1 :] = [f"{len(shown) - _SHOWN + 1} more"]
    return f"choose from {listed(shown)}."
