"""Find and read a store's manifest, or say why there is none."""

from pathlib import Path

from biomassters.chips.store_layout import MANIFEST_NAME, partial_path
from biomassters.chips.store_manifest import Manifest
from biomassters.errors import BadInputError


def read_manifest(path: Path | str) -> Manifest:
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
    import fsspec  # type: ignore[import-untyped]  # only a remote store needs it

    place = f"{path}/{MANIFEST_NAME}"
    try:
        with fsspec.open(place) as file:
            return Manifest.from_json(file.read(), path)
    except FileNotFoundError:
        raise BadInputError(
            f"There is no finished chip store at {path}, because {place} is missing: pack one."
        ) from None


def _read_local_manifest(path: Path) -> Manifest:
    try:
        return Manifest.from_json((path / MANIFEST_NAME).read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    if partial_path(path).is_dir() and not path.exists():
        raise BadInputError(
            f"The chip store {path} is unfinished: run the pipeline data_engineering again, it "
            "continues where it stopped."
        )
    raise BadInputError(
        f"There is no finished chip store at {path}, because it has no {MANIFEST_NAME}: run the "
        "pipeline data_engineering, which packs one."
    )


def manifest_mark(path: Path | str) -> object:
    """Something that changes when a local store is replaced by another."""
    if not isinstance(path, Path):
        return None
    try:
        status = (path / MANIFEST_NAME).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
