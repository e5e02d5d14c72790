"""A journal of work that falls apart into rows, such as chips: what is done survives a kill."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from biomassters.errors import BadInputError
from biomassters.io.files import is_disk_full, try_lock

_DONE = {"complete": True}


class RowJournal:
    """Append-only lines, one an entry; a torn one is dropped, a later one of a key counts.

    A journal that was completed is emptied at the next start: then everything is to be looked
    at again. Only one process at a time may hold it.

    Args:
        path: The file, made if it doesn't exist.
        work: What is being done, for the messages.

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
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise BadInputError(
                f"The disk is full while {self._work} ({self._file.name} can't grow): free some "
                "space and run again, what is done so far is kept."
            ) from error

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
