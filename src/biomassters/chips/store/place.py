"""Where the files of a store lie: what a writer needs of a folder, or of object storage."""

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from biomassters.io import storage
from biomassters.io.files import require_space, sync, write_synced

Parts = Sequence[bytes | memoryview]
_TEMPORARY_SUFFIX = ".tmp"


class StorePlace(Protocol):
    """Files by key, as in ``train/s1/c.0.0.0.0.0``; picklable, for workers write there too."""

    def keys(self) -> set[str]:
        """Keys of all files that are there."""
        ...

    def put(self, files: Mapping[str, Parts]) -> None:
        """Write files, each whole or not at all; one without parts is deleted.

        When this returns, a kill or a power cut no longer takes their data.
        """
        ...

    def take(self, older: "StorePlace", keys: Mapping[str, str | None]) -> None:
        """Take files over from an older store of the same kind of place.

        Args:
            older: Where they lie.
            keys: New key of each file and its old one; None deletes.
        """
        ...

    def require_space(self, needed_bytes: int, purpose: str) -> None:
        """Refuse with a BadInputError what there is no room for."""
        ...


@dataclass(frozen=True)
class FolderPlace:
    """A local folder.

    Attributes:
        root: The folder.
    """

    root: Path

    def keys(self) -> set[str]:
        """See ``StorePlace.keys``."""
        length = len(str(self.root)) + 1
        return {
            f"{folder}/{name}"[length:]
            for folder, _, names in os.walk(self.root)
            for name in names
            if not name.endswith(_TEMPORARY_SUFFIX)
        }

    def put(self, files: Mapping[str, Parts]) -> None:
        """See ``StorePlace.put``.

        A file is never written in place: an older store may share it, and a worker that was
        given up may still be writing the same chip. Its data is waited for here, its name when
        the store is published (``store_chip_files.has_files`` says why).
        """
        for key, parts in files.items():
            path = self.root / key
            if not parts:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_path(path)
            try:
                write_synced(temporary, parts)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def take(self, older: "StorePlace", keys: Mapping[str, str | None]) -> None:
        """See ``StorePlace.take``; links, or copies where links can't be."""
        assert isinstance(older, FolderPlace)
        for key, old_key in keys.items():
            target = self.root / key
            target.unlink(missing_ok=True)
            if old_key is None:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(older.root / old_key, target)
            except OSError:
                shutil.copyfile(older.root / old_key, target)
                sync(target)

    def require_space(self, needed_bytes: int, purpose: str) -> None:
        """See ``StorePlace.require_space``."""
        require_space(self.root, needed_bytes, purpose)

    def remove_temporary(self) -> None:
        """Delete what workers that were killed have left."""
        for path in self.root.rglob(f".*{_TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class UrlPlace:
    """Objects below a URL.

    Attributes:
        url: The URL.
    """

    url: str

    def keys(self) -> set[str]:
        """See ``StorePlace.keys``."""
        return set(storage.listing(self.url))

    def put(self, files: Mapping[str, Parts]) -> None:
        """See ``StorePlace.put``; the files of one call are sent side by side."""
        storage.side_by_side(self._put, files.items())

    def take(self, older: StorePlace, keys: Mapping[str, str | None]) -> None:
        """See ``StorePlace.take``; the storage copies, no byte comes here."""
        assert isinstance(older, UrlPlace)
        source = older.url
        storage.side_by_side(lambda pair: self._take(source, *pair), keys.items())

    def require_space(self, needed_bytes: int, purpose: str) -> None:
        """Object storage has no end."""

    def _put(self, item: tuple[str, Parts]) -> None:
        key, parts = item
        if parts:
            storage.write(f"{self.url}/{key}", b"".join(parts))
        else:
            storage.delete(f"{self.url}/{key}")

    def _take(self, source: str, key: str, old_key: str | None) -> None:
        if old_key is None:
            storage.delete(f"{self.url}/{key}")
        else:
            storage.copy(f"{source}/{old_key}", f"{self.url}/{key}")


def temporary_path(path: Path) -> Path:
    """Where this process, and no other on any machine, writes a file before it has its name."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{_TEMPORARY_SUFFIX}")
