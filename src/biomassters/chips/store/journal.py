"""The journal of a store that grows: which chips are done, so that a kill costs only one."""

import fcntl
import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crc32c import crc32c

from biomassters.chips.store.layout import FORMAT_VERSION
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.place import FolderPlace, StorePlace
from biomassters.errors import BadInputError

_NAME = "journal.jsonl"


def plan_of(codec: str, splits: Mapping[str, list[str]]) -> dict[str, object]:
    """What must not change between a write and its continuation.

    Args:
        codec: The store's codec.
        splits: Chip ids per split; their order gives each chip its index.

    Returns:
        The first line of the journal.
    """
    order = hashlib.sha256(json.dumps(splits).encode()).hexdigest()
    return {"version": FORMAT_VERSION, "codec": codec, "order": order}


def journal_line(values: Mapping[str, object]) -> str:
    """One line of a journal: its checksum, then JSON."""
    text = json.dumps(values)
    return f"{crc32c(text.encode()):08x} {text}\n"


def undamaged_lines(text: bytes) -> list[dict[str, Any]]:
    """The values of a journal's lines; a torn or damaged line is as if it weren't there."""
    pairs = (line.partition(b" ") for line in text.splitlines())
    return [json.loads(rest) for crc, _, rest in pairs if crc == b"%08x" % crc32c(rest)]


class ChipJournal(ABC):
    """Which chips of an unfinished store are done.

    Attributes:
        records: Their records, by split and index.
        growing: Where the store grows.
    """

    records: dict[tuple[str, int], ChipRecord]
    growing: StorePlace

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def valid_record(self, split: str, index: int, signature: str) -> ChipRecord | None:
        """A finished chip's record; one of another source is forgotten."""
        record = self.records.get((split, index))
        if record is not None and record.signature != signature:
            del self.records[split, index]
            return None
        return record

    def append(self, *records: ChipRecord) -> None:
        """Declare chips done; their files must be safe already."""
        self.records.update({(record.split, record.index): record for record in records})
        self._note(records)

    @abstractmethod
    def close(self) -> None:
        """Let others write the store."""

    @abstractmethod
    def _note(self, records: Sequence[ChipRecord]) -> None:
        """Keep records for the next run."""


class Journal(ChipJournal):
    """Append-only list of finished chips in the folder of an unfinished store.

    Its first line is the plan, every other line one chip, written after the chip's files
    are on the disk. A torn last line is dropped. Only one process at a time may hold it.

    Args:
        folder: Folder of the unfinished store, made if it doesn't exist; emptied if it
            belongs to another plan.
        plan: See ``plan_of``.

    Raises:
        BadInputError: Another process writes the same store.
    """

    def __init__(self, folder: Path, plan: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.growing = FolderPlace(folder)
        self._path = folder / _NAME
        self._file = self._path.open("ab+", buffering=0)
        try:
            self._lock()
            self.records = self._resume(plan)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """See ``ChipJournal.close``."""
        self._file.close()

    def _note(self, records: Sequence[ChipRecord]) -> None:
        self._write(*(record.to_dict() for record in records))

    def _write(self, *lines: Mapping[str, object]) -> None:
        self._file.write("".join(map(journal_line, lines)).encode())
        os.fsync(self._file.fileno())

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that has just finished renamed the folder under our feet.
            unmoved = os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except (BlockingIOError, FileNotFoundError):
            unmoved = False
        if not unmoved:
            raise BadInputError(
                f"Another run is writing {self._path.parent}: wait until it ends, then run again."
            )

    def _resume(self, plan: Mapping[str, object]) -> dict[tuple[str, int], ChipRecord]:
        """Records of the same plan's chips; anything else in the folder is cleared away."""
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        lines = undamaged_lines(whole)
        if lines and lines[0] == plan:
            self._file.truncate(len(whole))
            records = map(ChipRecord.from_dict, lines[1:])
            return {(record.split, record.index): record for record in records}
        self._file.truncate(0)
        _clear(self._path.parent)
        self._write(plan)
        return {}


def remove_journal(folder: Path) -> None:
    """Delete the journal of a store that is complete."""
    (folder / _NAME).unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _NAME:
            entry.unlink()
