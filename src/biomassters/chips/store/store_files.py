"""Files by their keys, as in ``train/s1/c.0.0.0.0.0``, in a folder or at a URL.

All that a writer needs of a place: every file appears whole or not at all, so any number of
processes may write the same ones. ``writer.py`` uses it.
"""

import errno
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomassters.chips.store.layout import MANIFEST_NAME, RECORDS
from biomassters.io import storage
from biomassters.io.files import (
    MOST_TEXT_BYTES,
    publish_folder,
    read_regular,
    require_space,
    sync,
    sync_all,
    write_synced,
)
from biomassters.io.storage import Place

Parts = Sequence[bytes | memoryview]  # what a file holds, written one after another

_TEMPORARY_SUFFIX = ".tmp"
_ATTEMPTS = 5  # at a file whose folder another run takes away meanwhile


@dataclass(frozen=True)
class FolderFiles:
    """Files in a local folder."""

    root: Path

    def listing(self) -> set[str]:
        """Keys of all files that are there."""
        length = len(str(self.root)) + 1
        return {
            f"{folder}/{name}"[length:]
            for folder, _, names in os.walk(self.root)
            for name in names
            if not name.endswith(_TEMPORARY_SUFFIX)
        }

    def read(self, key: str, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
        """A file's bytes.

        Raises:
            FileNotFoundError: There is none.
            BadInputError: It is no regular file, or larger than it may be.
        """
        return read_regular(self.root / key, most_bytes)

    def write(self, files: Mapping[str, Parts], wait: bool = True) -> None:
        """Write files, each whole or not at all; if ``wait``, until a power cut can't take them.

        A file is never written in place: an older store may share it. Its data is waited for
        here, its name when the store is published, as that would double the waiting: after a power
        cut some file systems have the one without the other, which the next run sees.
        """
        for key, parts in files.items():
            self._appear(key, write_synced if wait else _write, parts)

    def take(self, older: "StoreFiles", keys: Mapping[str, str]) -> None:
        """Take files over from a store of the same kind of place, by new and old key.

        They are linked, or copied where links can't be.

        Raises:
            FileNotFoundError: One is no longer there.
        """
        assert isinstance(older, FolderFiles)
        for key, old_key in keys.items():
            self._appear(key, _link, older.root / old_key)

    def require_space(self, needed_bytes: int, purpose: str) -> None:
        """Refuse with a BadInputError what there is no room for."""
        self.root.mkdir(parents=True, exist_ok=True)
        require_space(self.root, needed_bytes, purpose)

    def clear_beside(self) -> bool:
        """Delete what other unfinished stores have left beside; whether there was anything."""
        around = self.root.parent
        for claimed in around.glob(f"{self.root.name}-*"):
            with suppress(OSError):
                claimed.rename(self.root)  # a run was killed in the middle of ``publish``
        strange = [path for path in around.glob("[!.]*") if not path.match(f"{self.root.name}*")]
        for path in strange:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)  # another run may be writing there
            else:
                path.unlink(missing_ok=True)
        return bool(strange)

    def publish(self, place: Place, keys: set[str]) -> None:
        """Put the files at a store's place, instead of all that is there, in one step.

        Of two runs that come here at once, one renames the folder to a name of its own, where
        nobody else writes; the other one finds none, or another folder than it has looked at.
        The records move along: were they left behind, the next run would take them for those of
        the older store's files, which lie in the folder after a kill.

        Raises:
            FileNotFoundError: They are not all there (any more): another run was faster.
        """
        assert isinstance(place, Path)
        claimed = self.root.with_name(f"{self.root.name}-{uuid.uuid4().hex}")
        seen = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = self.listing()
            if not keys <= found:
                raise FileNotFoundError(self.root)
            for key in found - keys:
                if not key.startswith(RECORDS):
                    (self.root / key).unlink(missing_ok=True)
            sync_all(Path(folder) for folder, _, _ in os.walk(self.root))
            self.root.rename(claimed)
            if not os.path.samestat(os.fstat(seen), claimed.stat()):
                raise FileNotFoundError(self.root)
        finally:
            os.close(seen)
        try:
            publish_folder(claimed, place)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another run has just come first
                raise FileNotFoundError(claimed) from None
            raise

    def finish(self, place: Place) -> None:
        """Delete what only an unfinished store needs, here and at the finished store's place.

        The folder around it goes when nobody else uses it.
        """
        around = self.root.parent
        for folder in (self.root, *around.glob(f"{self.root.name}-*"), Path(place) / RECORDS):
            shutil.rmtree(folder, ignore_errors=True)
        if not FolderFiles(around).listing():
            shutil.rmtree(around, ignore_errors=True)

    def _appear(self, key: str, make: Callable[[Path, Any], None], content: Any) -> None:
        """Give a file its name when ``make`` has written it under another one."""
        path, temporary = self.root / key, self.temporary_path(key)
        for attempt in range(_ATTEMPTS):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                make(temporary, content)
                temporary.replace(path)
                return
            except (FileNotFoundError, FileExistsError):  # mkdir's, when the folder has just gone
                if attempt == _ATTEMPTS - 1:
                    raise
            finally:
                temporary.unlink(missing_ok=True)

    def temporary_path(self, key: str) -> Path:
        """Where this thread, and no other on any machine, writes a file before it has its name.

        Beside the folder, so that nothing half written ever moves with it.
        """
        writer = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        return self.root.with_name(f".{key.replace('/', '-')}.{writer}{_TEMPORARY_SUFFIX}")


@dataclass(frozen=True)
class UrlFiles:
    """Objects below a URL, with the methods of ``FolderFiles``.

    Those of one call are sent, copied or deleted side by side.
    """

    url: str

    def listing(self) -> set[str]:
        """Keys of all objects that are there."""
        return set(storage.listing(self.url))

    def read(self, key: str, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
        """An object's bytes, however many, or FileNotFoundError."""
        return storage.read(f"{self.url}/{key}")

    def write(self, files: Mapping[str, Parts], wait: bool = True) -> None:
        """Write objects, each whole or not at all; one that was sent is safe."""
        storage.side_by_side(
            lambda item: storage.write(f"{self.url}/{item[0]}", b"".join(item[1])), files.items()
        )

    def take(self, older: "StoreFiles", keys: Mapping[str, str]) -> None:
        """Take objects over by new and old key: the storage copies, no byte comes here."""
        assert isinstance(older, UrlFiles)
        source = older.url
        storage.side_by_side(
            lambda item: storage.copy(f"{source}/{item[1]}", f"{self.url}/{item[0]}"), keys.items()
        )

    def require_space(self, needed_bytes: int, purpose: str) -> None:
        """Object storage has no end."""

    def clear_beside(self) -> bool:
        """Delete what other unfinished stores have left beside; whether there was anything."""
        parent, _, name = self.url.rpartition("/")
        beside = UrlFiles(parent)
        strange = {key for key in beside.listing() if not key.startswith(f"{name}/")}
        beside._delete(strange)
        return bool(strange)

    def publish(self, place: Place, keys: set[str]) -> None:
        """Copy the objects to a store's place, instead of all that is there, the manifest last.

        An older store's manifest is deleted first, so that nobody reads a mixture of both; one
        that says the same is another run's, which was faster.

        Raises:
            FileNotFoundError: They are not all there (any more): another run was faster.
        """
        target = UrlFiles(str(place))
        with suppress(FileNotFoundError):
            if target.read(MANIFEST_NAME) == self.read(MANIFEST_NAME):
                return
            target._delete([MANIFEST_NAME])
        target.take(self, {key: key for key in keys - {MANIFEST_NAME}})
        target._delete(target.listing() - keys)
        target.take(self, {MANIFEST_NAME: MANIFEST_NAME})

    def finish(self, place: Place) -> None:
        """Delete what only an unfinished store needs; none of it was copied to the place."""
        self._delete(self.listing())

    def _delete(self, keys: Iterable[str]) -> None:
        storage.side_by_side(lambda key: storage.delete(f"{self.url}/{key}"), keys)


StoreFiles = FolderFiles | UrlFiles
"""Files below a folder or a URL; picklable, for workers write there too."""


def files_at(place: Place) -> StoreFiles:
    """The files of a folder, or below a URL."""
    return FolderFiles(place) if isinstance(place, Path) else UrlFiles(place)


def _write(path: Path, parts: Parts) -> None:
    path.write_bytes(b"".join(parts))


def _link(path: Path, source: Path) -> None:
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)
        sync(path)
