"""Which band is which, by the names that files carry."""

from biomassters.chips.bands import S2, SENSOR
from biomassters.errors import BadInputError
from biomassters.imagery.asset_names import SCENE_CLASSES, canonical_name


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
