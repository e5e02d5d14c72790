"""Which band is which, by the names that files carry."""

from biomassters.chips.bands import S1, S2
from biomassters.chips.pixel_checks import NEEDED_S2
from biomassters.errors import BadInputError
from biomassters.imagery.asset_names import SCENE_CLASSES, canonical_name


def match_bands(
    path: str, sensor: str, found: tuple[str, ...], stated: tuple[str, ...]
) -> dict[str, int]:
    """Numbers of the bands that are used, from 1, by name.

    Args:
        path: For messages.
        sensor: ``"s1"`` or ``"s2"``.
        found: What the file calls its bands, empty texts where it doesn't.
        stated: Names in order, for a file that says nothing.

    Raises:
        BadInputError: A stated order of another length, a name twice, or a band missing.
    """
    known = S1.bands if sensor == S1.name else (*S2.bands, SCENE_CLASSES)
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
        BadInputError: A reflectance is missing, or a whole Sentinel-1 image.
    """
    missing = [] if sensor == S1.name else [name for name in NEEDED_S2 if name not in bands]
    if missing or not bands:
        raise BadInputError(
            f"{what} lacks {', '.join(missing) or 'every band'}: describe its bands by name, or "
            f"list them in mapping.images.{sensor}_bands."
        )
