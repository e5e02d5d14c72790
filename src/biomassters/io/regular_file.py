"""Reading files that somebody else made: only regular ones, and no larger than they may be.

A pipe or a device in a file's place would keep a run waiting for ever, and a sparse file of a
few bytes may declare more than the memory holds. Both are seen before a byte is read.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biomassters.errors import BadInputError

MOST_TEXT_BYTES = 64 * 2**20  # of JSON and the like, which Python makes ten times as large


def irregular(path: Path | str) -> str | None:
    """What stands in a regular file's place, or None where it is one or nothing is there."""
    try:
        return kind_of(os.stat(path).st_mode)  # noqa: PTH116 (also for text)
    except (OSError, ValueError):
        return None


def kind_of(mode: int) -> str | None:
    """What a file is by its mode, None: a regular file."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "something else")


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
    mode = os.stat(path, dir_fd=directory).st_mode
    if (found := kind_of(mode)) is None:
        try:
            descriptor = os.open(path, flags, dir_fd=directory)
        except BlockingIOError:  # a file server has a lease of it, and gives it back when asked
            descriptor = os.open(path, flags & ~os.O_NONBLOCK, dir_fd=directory)
        # Once more, for what was put in its place meanwhile.
        if (found := kind_of(os.fstat(descriptor).st_mode)) is None:
            return descriptor
        os.close(descriptor)
    raise IrregularFileError(path, found)


class IrregularFileError(BadInputError):
    """A pipe, socket, device or folder in a file's place."""

    def __init__(self, path: Path | str, kind: str) -> None:
        super().__init__(f"{path} is {kind}, not a file: put a file in its place.")
        self.path, self.kind = path, kind

    def __reduce__(self) -> tuple[type, tuple[Path | str, str]]:
        return type(self), (self.path, self.kind)


def read_regular(path: Path | str, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The bytes of a file that may not be larger than it should be.

    Args:
        path: The file.
        most_bytes: What it may hold.

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
