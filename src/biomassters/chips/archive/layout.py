"""The layout of an archive: how files and chips are called, and which files lie where.

DrivenData publishes ``features_metadata.csv``, ``train_agbm_metadata.csv`` and GeoTIFFs in
``train_features/``, ``test_features/`` and ``train_agbm/``. Others re-host it in folders of their
own, so files are found by name, at any depth. ``metadata`` says what should exist. Damaged files
wait in quarantine, never deleted: acquisition moves one there when the right one takes its place,
verification when it is asked to.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from biomassters.errors import BadInputError
from biomassters.io.storage import Place, State, listing, place_of

logger = logging.getLogger(__name__)

# They become names of files and cells of tables: no formula, markup or line break is one.
CHIP_ID = r"[A-Za-z0-9_.][A-Za-z0-9_.-]*"
S3_COLUMNS = ("s3path_us", "s3path_eu", "s3path_as")  # of both metadata files
QUARANTINE = ".quarantine"  # hidden, so that nothing there counts as a file of the archive


def image_name(chip_id: str, sensor: str, month: int) -> str:
    """Name of a month's image, as in ``0003d2eb_S1_00.tif``."""
    return f"{chip_id}_{sensor.upper()}_{month:02d}.tif"


def label_name(chip_id: str) -> str:
    """Name of a label or a prediction, as in ``0003d2eb_agbm.tif``."""
    return f"{chip_id}_agbm.tif"


@dataclass(frozen=True)
class ArchiveFiles:
    """Files of an archive."""

    root: Place  # absolute path of the archive, or its URL
    csv_paths: tuple[str, ...]  # all CSVs
    tif_paths: dict[str, str]  # path or URL of every TIFF, by file name
    # State of every object by its URL; empty for a folder.
    states: Mapping[str, State] = field(default_factory=dict, repr=False)

    @classmethod
    def find(cls, root: Place, parameter: str = "raw_root") -> "ArchiveFiles":
        """Walks an archive's folder, or lists what lies below its URL.

        Where a name exists more than once, the file nearest to the root counts. ``parameter`` names
        the parameter that names the archive, for messages.

        Raises:
            BadInputError: If there is no such folder, or nothing below the URL.
        """
        root = place_of(root)
        states: dict[str, State] = {}
        if isinstance(root, Path):
            if not root.is_dir():
                raise BadInputError(
                    f"{root} is not a folder: set {parameter} to the folder of the BioMassters "
                    "archive."
                )
            paths: Iterable[str] = _walk(root)
        else:
            states = {f"{root}/{name}": state for name, state in listing(root).items()}
            if not states:
                raise BadInputError(
                    f"There is nothing below {root}: set {parameter} to the URL of the BioMassters "
                    "archive."
                )
            visible = (url for url in states if "/." not in url[len(root) :])
            paths = sorted(visible, key=lambda url: (url.count("/"), url))
        csv_paths = []
        tif_paths: dict[str, str] = {}
        for path in paths:
            if path.endswith((".tif", ".tiff")):
                tif_paths.setdefault(path.rpartition("/")[2], path)
            elif path.endswith(".csv"):
                csv_paths.append(path)
        return cls(root, tuple(csv_paths), tif_paths, states)


def _walk(root: Path) -> Iterator[str]:
    """Files that aren't hidden, level by level; links are followed, but not in circles."""
    seen = set()
    level = [str(root)]
    while level:
        below = []
        for folder in sorted(level):
            real = os.path.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            _, folders, names = next(os.walk(folder), (folder, [], []))
            below += [f"{folder}/{name}" for name in folders if not name.startswith(".")]
            yield from (f"{folder}/{name}" for name in names if not name.startswith("."))
        level = below


def file_state(path: str) -> State | None:
    """Size and time of the last change of a local file, None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (24 a chip: Path.stat is slower)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def quarantined_files(root: Place) -> dict[str, str]:
    """Paths of the TIFFs in quarantine, by name; object storage has none."""
    if not isinstance(root, Path):
        return {}
    return {path.name: str(path) for path in (root / QUARANTINE).glob("*.tif*")}


def quarantine(root: Path, path: Path) -> bool:
    """Moves a file of an archive aside; an older one of its name gets a numbered name.

    Returns:
        Whether it was moved; an archive that may not be changed stays as it is, with a warning.
    """
    place = root / QUARANTINE / path.name
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
