"""Where damaged files of an archive wait: moved aside, never deleted.

Acquisition moves a file when the right one takes its place, verification when it is asked to.
"""

import logging
import shutil
from itertools import count
from pathlib import Path

from biomassters.io.storage import Place

logger = logging.getLogger(__name__)

FOLDER = ".quarantine"  # hidden, so that nothing there counts as a file of the archive


def quarantined_files(root: Place) -> dict[str, str]:
    """Paths of the TIFFs in quarantine, by name; object storage has none."""
    if not isinstance(root, Path):
        return {}
    return {path.name: str(path) for path in (root / FOLDER).glob("*.tif*")}


def quarantine(root: Path, path: Path) -> bool:
    """Moves a file aside; an older one of its name keeps its place under a numbered name.

    Args:
        root: Folder of the archive.
        path: The file.

    Returns:
        Whether it was moved; an archive that may not be changed stays as it is, with a warning.
    """
    place = root / FOLDER / path.name
    try:
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            numbered = (place.with_name(f"{place.name}.{number}") for number in count(1))
            place.rename(next(name for name in numbered if not name.exists()))
        shutil.move(path, place)
    except OSError as error:
        logger.warning("%s can't be moved to %s (%s).", path, place.parent, error.strerror)
        return False
    return True
