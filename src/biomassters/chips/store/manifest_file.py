"""Find and read a store's manifest, or say why there is none."""

from pathlib import Path

from biomassters.chips.store.layout import MANIFEST_NAME, PLAN_NAME, partial_path, work_url
from biomassters.chips.store.manifest import Manifest
from biomassters.errors import BadInputError
from biomassters.io.files import read_regular
from biomassters.io.storage import Place, read, state

_MOST_BYTES = 2**30  # 3 KB a chip: a hundred thousand of them


def read_manifest(path: Place) -> Manifest:
    """Read the manifest of a complete store.

    Args:
        path: The store's folder, or its URL.

    Returns:
        The manifest.

    Raises:
        BadInputError: There is no store, it is unfinished or damaged, or of an unknown version.
    """
    if isinstance(path, Path):
        return _read_local_manifest(path)
    try:
        return Manifest.from_json(read(f"{path}/{MANIFEST_NAME}"), path)
    except FileNotFoundError:
        pass
    if state(f"{work_url(path)}/{PLAN_NAME}") is not None:
        raise _unfinished(path)
    raise _none(path)


def _read_local_manifest(path: Path) -> Manifest:
    try:
        return Manifest.from_json(read_regular(path / MANIFEST_NAME, _MOST_BYTES), str(path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    if partial_path(path).is_dir() and not path.exists():
        raise _unfinished(path)
    raise _none(path)


def _unfinished(path: Place) -> BadInputError:
    return BadInputError(
        f"The chip store {path} is unfinished: run the pipeline data_engineering again, it "
        "continues where it stopped."
    )


def _none(path: Place) -> BadInputError:
    return BadInputError(
        f"There is no finished chip store at {path}, because it has no {MANIFEST_NAME}: run the "
        "pipeline data_engineering, which packs one."
    )


def manifest_mark(path: Place) -> object:
    """Something that changes when a store is replaced by another."""
    if not isinstance(path, Path):
        return state(f"{path}/{MANIFEST_NAME}")
    try:
        status = (path / MANIFEST_NAME).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
