"""One run at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biomassters.errors import BadInputError


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder within the block; also a killed one lets it go.

    Args:
        folder: Made if need be; nothing is written into it.

    Raises:
        BadInputError: Another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInputError(
                f"Another run is training in {folder}: wait until it ends or stop it, then run "
                "again."
            ) from None
        yield
    finally:
        os.close(descriptor)
