"""Files and folders that survive a kill or a power cut at any moment."""

import ctypes
import errno
import os
import shutil
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from biomassters.errors import BadInputError
from biomassters.messages import readable_bytes

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_synced(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file and wait until its data is on the disk.

    Args:
        path: The file.
        parts: Its content, piece by piece.
    """
    with path.open("wb", buffering=0) as file:
        for part in parts:
            view = memoryview(part)
            while len(view):
                view = view[file.write(view) :]
        os.fsync(file.fileno())


def write_durably(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file that appears under its name only when its data is on the disk.

    Args:
        path: The file.
        parts: Its content, piece by piece.
    """
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
