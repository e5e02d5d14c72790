"""Which files lie in an archive's folder, at any depth."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from biomassters.errors import BadInputError


@dataclass(frozen=True)
class ArchiveFiles:
    """Files of an archive.

    Attributes:
        root: Absolute path of the archive.
        csv_paths: All CSVs.
        tif_paths: Path of every TIFF, by file name.
    """

    root: Path
    csv_paths: tuple[Path, ...]
    tif_paths: dict[str, str]

    @classmethod
    def find(cls, root: Path | str) -> "ArchiveFiles":
        """Walks an archive's folder.

        Where a name exists more than once, the file nearest to the root counts.

        Raises:
            BadInputError: If there is no such folder.
        """
        root = Path(os.path.abspath(root))  # noqa: PTH100 (links stay as the user wrote them)
        if not root.is_dir():
            raise BadInputError(
                f"{root} is not a folder: set raw_root to the folder of the BioMassters archive."
            )
        csv_paths = []
        tif_paths: dict[str, str] = {}
        for folder, names in _folders(root):
            for name in names:
                if name.endswith((".tif", ".tiff")):
                    tif_paths.setdefault(name, f"{folder}{os.sep}{name}")
                elif name.endswith(".csv"):
                    csv_paths.append(Path(folder, name))
        return cls(root, tuple(csv_paths), tif_paths)

    def paths(self, filenames: pd.Series) -> pd.Series:
        """Path of each file, ``""`` for a missing one."""
        found = [self.tif_paths.get(name, "") for name in filenames]
        return pd.Series(found, filenames.index, dtype=str)


def _folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders and their file names, level by level; links are followed, but not in circles."""
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
            below += [os.path.join(folder, name) for name in folders if not name.startswith(".")]  # noqa: PTH118
            yield folder, [name for name in names if not name.startswith(".")]
        level = below
