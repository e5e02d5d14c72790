"""Finished blocks of a map on disk: what a killed run has done is never done again.

``tiling`` says which chips a block has, ``predictor`` makes what is kept here, and ``map_writer``
puts it together.
"""

import ctypes
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from biomassters.io.files import RowJournal, write_durably
from biomassters.messages import redact
from biomassters.regions.tiling import Block

_JOB = "job.json"


@dataclass(frozen=True, eq=False)
class BlockMap:
    """What a block contributes to the map.

    Attributes:
        block: Which.
        sums: float32 [h, w] of its extent: Σ weight · AGB, Mg/ha; None where there is no data.
        months: uint8 [h, w] of its core: months with data at each pixel.
        network_s: Seconds that the network took.
        chips: Chips predicted.
    """

    block: Block
    sums: NDArray[np.float32] | None
    months: NDArray[np.uint8]
    network_s: float = 0.0
    chips: int = 0


class BlockFolder:
    """Blocks of one map, each a file or two, and the journal of those that are complete.

    Args:
        folder: Where they lie; what another map left there is deleted.
        job: Fingerprint of everything that the map depends on, but for the files' contents.
        files: What tells one content of a file from another, by name. A file that an earlier run
            found damaged may have changed: it was mended.

    Raises:
        BadInputError: Another process works there.
    """

    def __init__(self, folder: Path, job: str, files: Mapping[str, Any] | None = None) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = RowJournal(folder / "journal.jsonl", "mapping a region")
        now = {"job": job, "files": dict(files or {}), "damaged": []}
        if not _same_job(self._noted(), now):
            self.clear()
        self._note(now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._journal.__exit__(*error)

    def has(self, block: Block) -> bool:
        """Whether a block is complete: in the journal, with the bytes that were noted."""
        noted = self._journal.entries.get(block.name)
        if noted is None:
            return False
        paths = self._paths(block)[: len(noted)]
        try:
            return [crc32c(path.read_bytes()) for path in paths] == noted
        except OSError:
            return False

    def save(self, result: BlockMap) -> None:
        """Write a block; it counts when all its bytes are on the disk."""
        checksums = []
        for path, array in zip(
            self._paths(result.block), (result.months, result.sums), strict=True
        ):
            if array is not None:
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                write_durably(path, [buffer.getbuffer()])
                checksums.append(crc32c(buffer.getbuffer()))
        self._journal.append(result.block.name, checksums)

    def sums(self, block: Block) -> NDArray[np.float32] | None:
        """A complete block's sums, mapped from the disk; None where it has no data."""
        if len(self._journal.entries[block.name]) == 1:
            return None
        return np.asarray(np.load(self._paths(block)[1], mmap_mode="r"))

    def months(self, block: Block) -> NDArray[np.uint8]:
        """A complete block's months with data, [h, w] of its core."""
        return np.asarray(np.load(self._paths(block)[0]))

    def clear(self) -> None:
        """Delete every block."""
        self._journal.restart()  # first: no entry without its file
        for path in self._folder.glob("*.npy*"):
            path.unlink()
        (self._folder / _JOB).unlink(missing_ok=True)

    def note_damaged(self, names: set[str]) -> None:
        """Remember files that are to be mended, addresses without their secrets."""
        self._note({**self._noted(), "damaged": sorted(map(redact, names))})

    def _note(self, facts: dict[str, Any]) -> None:
        write_durably(self._folder / _JOB, [json.dumps(facts).encode()])

    def _noted(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self._folder / _JOB).read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def _paths(self, block: Block) -> list[Path]:
        return [self._folder / f"{block.name}.{kind}.npy" for kind in ("months", "sums")]


def _same_job(noted: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether finished blocks are still right: same job, and no file changed but mended ones."""
    before, after = noted.get("files", {}), now["files"]
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    return noted.get("job") == now["job"] and changed <= set(noted.get("damaged", []))


def return_freed_memory() -> None:
    """Give back what glibc's malloc keeps; on other systems nothing.

    It keeps free pieces between those in use, more of them with every block: the memory of the
    process would grow with the map though nothing holds it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
