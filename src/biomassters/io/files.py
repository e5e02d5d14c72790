"""Local files: written so that they survive a kill or a power cut, and read with care.

A file or folder appears under its name only when it is whole. What somebody else made is read
only where it is a regular file, and no larger than it may be: a pipe or a device in its place
would keep a run waiting for ever, and a sparse file of a few bytes may declare more than the
memory holds.
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from biomassters.errors import BadInputError
from biomassters.messages import readable_bytes

MOST_TEXT_BYTES = 64 * 2**20  # of JSON and the like, which Python makes ten times as large
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


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
    """Refuse work that the disk has no room for.

    Args:
        folder: An existing folder on the disk.
        needed_bytes: What will be written.
        purpose: What for, in the message.

    Raises:
        BadInputError: Less is free than needed.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise BadInputError(
            f"{purpose} needs about {readable_bytes(needed_bytes)}, but {folder} has "
            f"{readable_bytes(free)} free: free some space or choose a folder on another disk."
        )


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed for lack of space, or of quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process; False where another one has it.

    The system ends the lock with the process, also a killed one, and the lock needs no file of its
    own beside the one that it protects.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def publish_folder(new: Path, place: Path) -> None:
    """Give a complete folder its name; a folder of that name is replaced and deleted.

    On Linux the two change places in one step, so there is no moment without a complete
    folder. Elsewhere there is an instant between two renames.

    Args:
        new: The complete folder, on the same disk.
        place: Where it belongs.
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

    Args:
        path: The file.
        directory: Descriptor of the folder that a relative path begins in.

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
    path: Path | str,
    remedy: str,
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.
        remedy: What to give instead, as the end of a sentence.
        object_hook: What becomes of each object as soon as it is read; see ``json.loads``.

    Raises:
        BadInputError: It can't be read, or is no JSON.
    """
    try:
        return json.loads(read_regular(path), object_hook=object_hook)
    except OSError as error:
        raise BadInputError(f"{path} can't be read ({error.strerror}); {remedy}.") from None
    except BadInputError:
        raise
    except RecursionError:
        raise BadInputError(f"{path} is nested too deeply: {remedy}.") from None
    except ValueError:
        raise BadInputError(f"{path} is not JSON: {remedy}.") from None
