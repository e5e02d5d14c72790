"""POSIX ``cksum``, as the archive's metadata list it, at zlib's speed.

POSIX's CRC-32 has zlib's polynomial, but takes each byte's highest bit first, starts from
0 and ends with the length (IEEE Std 1003.1, utility cksum). Mirroring the bits of every
byte and of the result turns it into zlib's CRC.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_START = 0xFFFFFFFF  # zlib inverts its start value, POSIX starts from 0
_BLOCK_BYTES = 1 << 18  # stays in the processor's cache between mirroring and summing


def posix_cksum(data: bytes | bytearray | memoryview) -> int:
    """Checksum of bytes, as ``cksum`` prints it.

    Example:
        >>> posix_cksum(b"123456789")
        930766865
    """
    view = memoryview(data).cast("B")
    starts = range(0, len(view), _BLOCK_BYTES)
    return _cksum(bytes(view[start : start + _BLOCK_BYTES]) for start in starts)


def file_cksum(path: Path) -> int:
    """Checksum of a file, as ``cksum`` prints it, in little memory."""
    with path.open("rb") as file:
        return _cksum(iter(lambda: file.read(_BLOCK_BYTES), b""))


def _cksum(blocks: Iterable[bytes]) -> int:
    state, count = _START, 0
    for block in blocks:
        state = zlib.crc32(block.translate(_MIRRORED), state)
        count += len(block)
    length = count.to_bytes((count.bit_length() + 7) // 8, "little")
    state = zlib.crc32(length.translate(_MIRRORED), state)
    return int.from_bytes(state.to_bytes(4, "little").translate(_MIRRORED), "big")
