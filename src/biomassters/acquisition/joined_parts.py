"""Several files read as one, such as the pieces that a large tar was split into."""

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any


class JoinedParts(io.RawIOBase):
    """A seekable file of parts; only one is open at a time.

    Args:
        paths: The parts, in order.
        open_part: Opens one, seekable.
    """

    def __init__(self, paths: Sequence[str], open_part: Callable[[str], Any]) -> None:
        super().__init__()
        self._paths = list(paths)
        self._open_part = open_part
        self._number = -1
        self._part: Any = None
        self._position = 0
        self.sizes = [self._size(number) for number in range(len(paths))]
        self._starts = [0, *accumulate(self.sizes)]

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the beginning of the first part."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place, counted from the beginning of the first part."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer up to the end of a part."""
        number = bisect_right(self._starts, self._position) - 1
        if number >= len(self._paths):
            return 0
        self._open(number)
        offset = self._position - self._starts[number]
        self._part.seek(offset)
        data = self._part.read(min(len(buffer), self.sizes[number] - offset))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Closes the part that is open."""
        if self._part is not None:
            self._part.close()
            self._part = None
        super().close()

    def _size(self, number: int) -> int:
        self._open(number)
        return int(self._part.seek(0, io.SEEK_END))

    def _open(self, number: int) -> None:
        if number != self._number:
            if self._part is not None:
                self._part.close()
            self._part = self._open_part(self._paths[number])
            self._number = number
