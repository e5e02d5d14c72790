"""Which files lie in an archive's folder, or below its URL, at any depth."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from biomassters.errors import BadInputError
from biomassters.io.storage import Place, State, listing, place_of


@dataclass(frozen=True)
class ArchiveFiles:
    """Files of an archive.

    Attributes:
        root: Absolute path of the archive, or its URL.
        csv_paths: All CSVs.
        tif_paths: Path or URL of every TIFF, by file name.
        states: State of every object by its URL; empty for a folder.
    """

    root: Place
    csv_paths: tuple[str, ...]
    tif_paths: dict[str, str]
    states: Mapping[str, State] = field(default_factory=dict, repr=False)

    @classmethod
    def find(cls, root: Place, parameter: str = "raw_root") -> "ArchiveFiles":
        """Walks an archive's folder, or lists what lies below its URL.

        Where a name exists more than once, the file nearest to the root counts.

        Args:
            root: Folder or URL.
            parameter: The parameter that names it, for messages.

        Raises:
            BadInputError: If there is no such folder, or nothing below the URL.
        """
        root = place_of(root)
        if isinstance(root, Path):
            if not root.is_dir():
                raise BadInputError(
                    f"{root} is not a folder: set {parameter} to the folder of the BioMassters "
                    "archive."
                )
            return cls._sorted(root, _walk(root), {})
        states = {f"{root}/{name}": state for name, state in listing(root).items()}
        if not states:
            raise BadInputError(
                f"There is nothing below {root}: set {parameter} to the URL of the BioMassters "
                "archive."
            )
        return cls._sorted(root, _nearest_first(root, states), states)

    @classmethod
    def _sorted(
        cls, root: Place, paths: Iterable[str], states: Mapping[str, State]
    ) -> "ArchiveFiles":
        csv_paths = []
        tif_paths: dict[str, str] = {}
        for path in paths:
            if path.endswith((".tif", ".tiff")):
                tif_paths.setdefault(path.rpartition("/")[2], path)
            elif path.endswith(".csv"):
                csv_paths.append(path)
        return cls(root, tuple(csv_paths), tif_paths, states)

    def paths(self, filenames: pd.Series) -> pd.Series:
        """Path of each file, ``""`` for a missing one."""
        found = [self.tif_paths.get(name, "") for name in filenames.to_numpy()]
        return pd.Series(found, filenames.index, dtype=str)


def file_state(path: str) -> State | None:
    """Size and time of the last change of a local file, None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (24 a chip: Path.stat is slower)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _nearest_first(root: str, urls: Iterable[str]) -> list[str]:
    """URLs without a hidden folder or name in them, level by level."""
    seen = [url for url in urls if "/." not in url[len(root) :]]
    return sorted(seen, key=lambda url: (url.count("/"), url))


def _walk(root: Path) -> Iterator[str]:
    """Files, level by level; links are followed, but not in circles."""
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
