"""One shard file of a Zarr v3 array: chunks one after another, then their index.

The format is that of the ``sharding_indexed`` codec with its index at the end
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): per chunk offset
and size as little-endian uint64, both 2⁶⁴ − 1 for a chunk that was left out, then the
index's CRC-32C. zarr-python reads and writes the same files; doing it here saves copies on
the way in and lets the writer fsync.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from crc32c import crc32c

from biomassters.chips.store.layout import CRC_BYTES, EncodedChunk
from biomassters.errors import BadInputError

_LEFT_OUT = 2**64 - 1


def shard_parts(chunks: Sequence[EncodedChunk | None]) -> list[bytes | memoryview]:
    """Lay out a shard.

    Args:
        chunks: Encoded chunks in order, None for one that is left out.

    Returns:
        What the file holds, to be written one after another; empty when every chunk is
        left out, because then Zarr has no file.
    """
    parts = [part for chunk in chunks if chunk is not None for part in chunk.parts]
    if not parts:
        return []
    index = np.full((len(chunks), 2), _LEFT_OUT, dtype="<u8")
    offset = 0
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            index[number] = offset, chunk.size
            offset += chunk.size
    index_bytes = index.tobytes()
    return [*parts, index_bytes, struct.pack("<I", crc32c(index_bytes))]


class Shard(ABC):
    """A shard and where its chunks lie.

    Args:
        name: Name for messages.
        size: Bytes.
        chunk_count: Chunks in the index; None for a file that is one chunk without an index.
    """

    def __init__(self, name: str, size: int, chunk_count: int | None) -> None:
        self.name = name
        self._index = ((0, size),) if chunk_count is None else self._read_index(size, chunk_count)

    @abstractmethod
    def fill(self, out: memoryview, position: int) -> None:
        """Read bytes from a position on until ``out`` is full, or raise ``damage``."""

    def chunk_size(self, number: int) -> int | None:
        """Bytes of an encoded chunk; None when it was left out."""
        offset, size = self._index[number]
        return None if offset == _LEFT_OUT else size

    def read_into(self, number: int, out: memoryview, skip: int = 0) -> None:
        """Read an encoded chunk, or a piece of it.

        Args:
            number: Which chunk.
            out: Bytes to fill.
            skip: Bytes of the chunk to leave out before.

        Raises:
            BadInputError: The file ends too early.
        """
        self.fill(out, self._index[number][0] + skip)

    def damage(self, reason: str) -> BadInputError:
        """The exception that says what is wrong with this file."""
        return BadInputError(
            f"{self.name} is damaged ({reason}): delete this file and run the pipeline "
            "data_engineering again, which packs its chip anew."
        )

    def _read_index(self, size: int, chunk_count: int) -> tuple[tuple[int, int], ...]:
        length = chunk_count * 16
        start = size - length - CRC_BYTES
        if start < 0:
            raise self.damage("it has no index")
        buffer = bytearray(length + CRC_BYTES)
        self.fill(memoryview(buffer), start)
        stored = bytes(buffer)
        if struct.pack("<I", crc32c(stored[:length])) != stored[length:]:
            raise self.damage("its index has a wrong checksum")
        index = np.frombuffer(stored, "<u8", chunk_count * 2).reshape(chunk_count, 2).tolist()
        if any(offset != _LEFT_OUT and offset + count > start for offset, count in index):
            raise self.damage("its index points past the data")
        return tuple((offset, count) for offset, count in index)


class Shards(Protocol):
    """Where the shards of an array are."""

    def open(self, chip: int, chunk_count: int | None) -> Shard:
        """A chip's shard; raises BadInputError where it is missing."""
        ...
