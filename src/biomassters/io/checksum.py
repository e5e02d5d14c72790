"""POSIX ``cksum``, as the archive's metadata list it, at zlib's speed.

POSIX's CRC-32 has zlib's polynomial, but takes each byte's highest bit first, starts from
0 and ends with the length (IEEE Std 1003.1, utility cksum). Mirroring the bits of every
byte and of the result turns it into zlib's CRC.
"""

import zlib
from pathlib import Path

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_START = 0xFFFFFFFF  # zlib inverts its start value, POSIX starts from 0
_BLOCK_BYTES = 1 << 18  # stays in the processor's cache between mirroring and summing


class PosixCksum:
    """A checksum that grows with its data.

    Example:
        >>> checksum = PosixCksum()
        >>> checksum.update(b"123456789")
        >>> checksum.value()
        930766865
    """

    def __init__(self) -> None:
        self._state = _START
        self._length = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Adds bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _BLOCK_BYTES):
            block = bytes(view[start : start + _BLOCK_BYTES]).translate(_MIRRORED)
            self._state = zlib.crc32(block, self._state)
        self._length += len(view)

    def value(self) -> int:
        """The checksum of everything so far."""
        length = self._length.to_bytes((self._length.bit_length() + 7) // 8, "little")
        state = zlib.crc32(length.translate(_MIRRORED), self._state)
        return int.from_bytes(state.to_bytes(4, "little").translate(_MIRRORED), "big")


def posix_cksum(data: bytes | bytearray | memoryview) -> int:
    """Checksum of bytes, as ``cksum`` prints it."""
    checksum = PosixCksum()
    checksum.update(data)
    return checksum.value()


def file_cksum(path: Path) -> int:
    """Checksum of a file, as ``cksum`` prints it, in little memory."""
    checksum = PosixCksum()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum.update(block)
    return checksum.value()
