"""How a store begins, and how it becomes readable: in a folder, or at a URL."""

import os
from collections.abc import Mapping
from pathlib import Path

from biomassters.chips.store.journal import ChipJournal, Journal, remove_journal
from biomassters.chips.store.layout import MANIFEST_NAME, partial_path
from biomassters.chips.store.manifest import Manifest
from biomassters.chips.store.metadata import metadata_files
from biomassters.chips.store.place import FolderPlace, StorePlace, UrlPlace
from biomassters.chips.store.url_journal import UrlJournal
from biomassters.io.files import publish_folder, sync_all, write_durably
from biomassters.io.storage import Place


def open_journal(path: Place, plan: Mapping[str, object]) -> ChipJournal:
    """The journal of a store that is to be written, or is being written.

    Args:
        path: The store's folder or URL.
        plan: See ``plan_of``.

    Raises:
        BadInputError: Another run writes the same store.
    """
    return Journal(partial_path(path), plan) if isinstance(path, Path) else UrlJournal(path, plan)


def finished_place(path: Place) -> StorePlace:
    """Where a finished store lies."""
    return FolderPlace(path) if isinstance(path, Path) else UrlPlace(path)


def publish(path: Place, journal: ChipJournal, manifest: Manifest) -> None:
    """Complete a store whose chips are all written; readers see it from then on.

    Args:
        path: The store's folder or URL.
        journal: Its journal.
        manifest: What it holds.
    """
    if isinstance(path, Path):
        _publish_folder(path, journal.growing, manifest)
    else:
        assert isinstance(journal, UrlJournal)
        _publish_url(path, journal, manifest)


def _publish_folder(path: Path, growing: StorePlace, manifest: Manifest) -> None:
    """Zarr's metadata, then the manifest, then the folder's name."""
    assert isinstance(growing, FolderPlace)
    growing.remove_temporary()
    growing.put(metadata_files(manifest))
    # The files themselves were waited for when they were written.
    sync_all(Path(folder) for folder, _, _ in os.walk(growing.root))
    write_durably(growing.root / MANIFEST_NAME, [manifest.to_json().encode()])
    publish_folder(growing.root, path)
    remove_journal(path)


def _publish_url(url: str, journal: UrlJournal, manifest: Manifest) -> None:
    """Zarr's metadata, then the manifest; what grew beside an older store is copied over it.

    The older one's manifest is deleted first, so that nobody reads a mixture of both.
    """
    growing, place = journal.growing, UrlPlace(url)
    growing.put(metadata_files(manifest))
    if growing != place:
        place.put({MANIFEST_NAME: []})
        new = growing.keys()
        copied: dict[str, str | None] = dict.fromkeys(place.keys() - new)
        place.take(growing, copied | {key: key for key in new})
    journal.require()
    place.put({MANIFEST_NAME: [manifest.to_json().encode()]})
    journal.discard()
