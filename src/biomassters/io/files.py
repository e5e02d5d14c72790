"""Local files: written so that they survive a kill or a power cut, and read with care.

A file or folder appears under its name only when it is whole. What somebody else made is read
only where it is a regular file, and no larger than it may be: a pipe or a device in its place
would keep a run waiting for ever, and a sparse file of a few bytes may declare more than the
memory holds. ``RowJournal`` notes what is done of long work.
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from biomassters.errors import BadInputError
from biomassters.messages import readable_bytes

MOST_TEXT_BYTES = 64 * 2**20  # of JSON and the like, which Python makes ten times as large
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_DONE = {"complete": True}


# ---- Writing


def write_synced(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file, piece by piece, and wait until its data is on the disk."""
    with path.open("wb", buffering=0) as file:
        for part in parts:
            view = memoryview(part)
            while len(view):
                view = view[file.write(view) :]
        os.fsync(file.fileno())


def write_durably(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file that appears under its name only when its data is on the disk."""
    temporary = path.with_name(path.name + ".tmp")
    write_synced(temporary, parts)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's data, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(paths: Iterable[Path]) -> None:
    """``sync`` many at once, which a file system brings to the disk in one go."""
    with ThreadPoolExecutor(16) as pool:
        deque(pool.map(sync, paths), maxlen=0)


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Refuse work (``purpose``, for the message) that the disk of a folder has no room for.

    Raises:
        BadInputError: Less is free than needed.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise BadInputError(
            f"{purpose} needs about {readable_bytes(needed_bytes)}, but {folder} has "
            f"{readable_bytes(free)} free: free some space or choose a folder on another disk."
        )


@contextmanager
def full_disk_explained(sentence: str) -> Iterator[None]:
    """Say this in a BadInputError where the block fails for lack of space, or of quota."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadInputError(sentence) from error


def try_lock(file: IO[Any] | int) -> bool:
    """Lock an open file or folder for this process; False where another one has it.

    The system ends the lock with the process, also a killed one, and the lock needs no file of its
    own beside the one that it protects.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def publish_folder(new: Path, place: Path) -> None:
    """Give a complete folder its name on the same disk; one of that name is replaced and deleted.

    On Linux the two change places in one step, so there is no moment without a complete
    folder. Elsewhere there is an instant between two renames.
    """
    old = place.with_name(place.name + ".old")
    if not place.exists():
        new.rename(place)
    elif _exchange(new, place):
        old = new
    else:
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
        new.rename(place)
    sync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names with renameat2(2); False where the system or the disk can't."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


# ---- Reading what somebody else made


class IrregularFileError(BadInputError):
    """A pipe, socket, device or folder in a file's place."""

    def __init__(self, path: Path | str, kind: str) -> None:
        super().__init__(f"{path} is {kind}, not a file: put a file in its place.")
        self.path, self.kind = path, kind

    def __reduce__(self) -> tuple[type, tuple[Path | str, str]]:
        return type(self), (self.path, self.kind)


def irregular(path: Path | str) -> str | None:
    """What stands in a regular file's place, or None where it is one or nothing is there."""
    try:
        return _irregular_kind(os.stat(path).st_mode)  # noqa: PTH116 (also for text)
    except (OSError, ValueError):
        return None


def _irregular_kind(mode: int) -> str | None:
    kinds = {
        stat.S_IFREG: None,
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def open_regular(path: Path | str, directory: int | None = None) -> int:
    """A descriptor of a regular file, opened without waiting for whoever writes to a pipe.

    ``directory`` is a descriptor of the folder that a relative path begins in.

    Raises:
        IrregularFileError: It is something else.
        OSError: It can't be opened.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    found = _irregular_kind(os.stat(path, dir_fd=directory).st_mode)
    if found is None:
        try:
            descriptor = os.open(path, flags, dir_fd=directory)
        except BlockingIOError:  # a file server has a lease of it, and gives it back when asked
            descriptor = os.open(path, flags & ~os.O_NONBLOCK, dir_fd=directory)
        # Once more, for what was put in its place meanwhile.
        found = _irregular_kind(os.fstat(descriptor).st_mode)
        if found is None:
            return descriptor
        os.close(descriptor)
    raise IrregularFileError(path, found)


def read_regular(path: Path | str, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The bytes of a file that may not be larger than it should be.

    Raises:
        BadInputError: It is no regular file, or larger.
        OSError: It can't be read.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise BadInputError(
                f"{path} has {size:,} bytes, and such a file has at most {most_bytes:,}: fetch it "
                "again."
            )
        return file.read()


def read_json(
    path: Path | str, remedy: str, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """The content of a JSON file; ``remedy``, what to give instead, ends the message.

    ``object_hook`` makes something of each object as soon as it is read, as of ``json.loads``.

    Raises:
        BadInputError: It can't be read, or is no JSON.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise BadInputError(f"{path} can't be read ({error.strerror}); {remedy}.") from None
    try:
        return json.loads(content, object_hook=object_hook)
    except RecursionError:
        raise BadInputError(f"{path} is nested too deeply: {remedy}.") from None
    except ValueError:
        raise BadInputError(f"{path} is not JSON: {remedy}.") from None


class JsonModel:
    """A frozen dataclass of plain values that goes to JSON and comes back as it was."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Self:
        """What ``to_dict`` gave, as JSON has it; of nothing an empty one, without unknown names."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (values or {}).items()
            if name in cls.__dataclass_fields__  # type: ignore[attr-defined]
        }
        return cls(**known)


# ---- Work that falls apart into rows, such as chips


class RowJournal:
    """What is done survives a kill: append-only lines, one an entry, the last one of a key counts.

    A journal that was completed is emptied at the next start: then everything is to be looked
    at again. Only one process at a time may hold it. ``work``, what is done, is for messages.

    Raises:
        BadInputError: Another process holds it.
    """

    def __init__(self, path: Path, work: str) -> None:
        self._work = work
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+", buffering=0)
        if not try_lock(self._file):
            self._file.close()
            raise BadInputError(
                f"Another run is {work} ({path} is locked): wait until it ends, then run again."
            )
        self.entries = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, key: str, value: Any) -> None:
        """Notes that the work of a key is done."""
        self.entries[key] = value
        self._write({"key": key, "value": value})

    def complete(self) -> None:
        """Notes that all work is done; the next run begins anew."""
        self._write(_DONE)

    def restart(self) -> None:
        """Forgets everything."""
        self._file.truncate(0)
        self.entries = {}

    def _write(self, line: Mapping[str, Any]) -> None:
        with full_disk_explained(
            f"The disk is full while {self._work} ({self._file.name} can't grow): free some "
            "space and run again, what is done so far is kept."
        ):
            self._file.write(json.dumps(line).encode() + b"\n")

    def _read(self) -> dict[str, Any]:
        self._file.seek(0)
        text = self._file.read()
        entries = {}
        for line in text.splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # torn by a kill or a power cut
                continue
            if values == _DONE:
                self._file.truncate(0)
                return {}
            entries[values["key"]] = values["value"]
        if text and not text.endswith(b"\n"):
            self._file.write(b"\n")
        return entries
