"""Shards of an array in a local folder, read by preadv(2)."""

import os
from pathlib import Path

from biomassters.chips.store.layout import StoreArray
from biomassters.chips.store.shard import Shard
from biomassters.errors import BadInputError
from biomassters.io.files import IrregularFileError, open_regular


class FileShard(Shard):
    """A shard in an open file; closes itself when nobody uses it any more.

    Args:
        name: Name for messages.
        descriptor: The open file, owned by this object from now on.
        chunk_count: See ``Shard``.
    """

    def __init__(self, name: str, descriptor: int, chunk_count: int | None) -> None:
        self._descriptor = descriptor
        super().__init__(name, os.fstat(descriptor).st_size, chunk_count)

    def __del__(self) -> None:
        # Threads share shards: only the last reference may close the file.
        os.close(self._descriptor)

    def fill(self, out: memoryview, position: int) -> None:
        """See ``Shard.fill``."""
        while len(out):
            count = os.preadv(self._descriptor, [out], position)
            if count == 0:
                raise self.damage("it ends too early")
            out = out[count:]
            position += count


class FileShards:
    """All shards of an array in a folder.

    Args:
        folder: The array's folder.
        array: Which array it is.
    """

    def __init__(self, folder: Path, array: StoreArray) -> None:
        self._folder, self._array = folder, array
        self._descriptor: int | None = None
        # Through this descriptor an old store stays readable while a new one takes its name.
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def open(self, chip: int, chunk_count: int | None) -> Shard:
        """See ``Shards.open``."""
        name = self._array.file_name(chip)
        try:
            descriptor = open_regular(name, self._descriptor)
        except IrregularFileError as error:
            raise IrregularFileError(self._folder / name, error.kind) from None
        except FileNotFoundError:
            raise BadInputError(
                f"{self._folder / name} is missing, or the store was replaced: start again; "
                "if it is still missing, delete the chip store and pack it again."
            ) from None
        return FileShard(str(self._folder / name), descriptor, chunk_count)
