"""Where the pixels of an uncompressed strip TIFF lie, from its header; no I/O.

Reads classic TIFF (Adobe, TIFF Revision 6.0, 1992) of either byte order as far as the
archive needs it: one image whose strips follow each other without compression. Anything
else is left to GDAL.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_FIELD_CODES = {1: "B", 3: "H", 4: "I"}  # byte, short, long: all that the tags below use
_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _FILL_ORDER = 256, 257, 258, 259, 266
_STRIP_OFFSETS, _BANDS, _STRIP_BYTES, _PLANAR = 273, 277, 279, 284
_SAMPLE_FORMAT = 339
_NEEDED = (_WIDTH, _HEIGHT, _BITS, _STRIP_OFFSETS, _STRIP_BYTES)
_USED = (*_NEEDED, _COMPRESSION, _FILL_ORDER, _BANDS, _PLANAR, _SAMPLE_FORMAT)
_GEOTIFF_TAGS = frozenset((33550, 33922, 34264, 34735))

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class StripLayout:
    """Pixels that lie in one piece.

    Attributes:
        height: Rows of pixels.
        width: Columns of pixels.
        bands: Values a pixel.
        dtype: Type of a value, with its byte order.
        by_pixel: Whether the bands of one pixel lie together; otherwise band follows band.
        offset: Bytes before the first pixel.
        georeferenced: Whether the file says where it lies.
    """

    height: int
    width: int
    bands: int
    dtype: np.dtype
    by_pixel: bool
    offset: int
    georeferenced: bool

    @property
    def end(self) -> int:
        """Bytes up to the end of the last pixel."""
        return self.offset + self.height * self.width * self.bands * self.dtype.itemsize

    def pixels(self, data: Buffer) -> NDArray:
        """View of a whole file's pixels: [bands, height, width]."""
        count = self.height * self.width * self.bands
        values = np.frombuffer(data, self.dtype, count, self.offset)
        if self.by_pixel:
            return values.reshape(self.height, self.width, self.bands).transpose(2, 0, 1)
        return values.reshape(self.bands, self.height, self.width)


def parse_strip_layout(data: Buffer) -> StripLayout | None:
    """Reads a TIFF's header.

    Args:
        data: The file from its beginning, at least to the end of its header.

    Returns:
        The layout, or None where this is not an uncompressed TIFF of contiguous strips.
    """
    order = _BYTE_ORDERS.get(bytes(data[:4]))
    if order is None:
        return None
    try:
        tags, georeferenced = _read_tags(data, order)
    except struct.error:  # the header points behind the end of the data
        return None
    if any(tag not in tags for tag in _NEEDED):
        return None
    return _layout(tags, order, georeferenced)


def _read_tags(data: Buffer, order: str) -> tuple[dict[int, tuple[int, ...]], bool]:
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags = {}
    georeferenced = False
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, field_type, length = struct.unpack_from(order + "HHI", data, entry)
        georeferenced |= tag in _GEOTIFF_TAGS
        code = _FIELD_CODES.get(field_type)
        if tag not in _USED or code is None:
            continue
        form = f"{order}{length}{code}"
        place = entry + 8
        if struct.calcsize(form) > 4:
            (place,) = struct.unpack_from(order + "I", data, place)
        tags[tag] = struct.unpack_from(form, data, place)
    return tags, georeferenced


def _layout(
    tags: dict[int, tuple[int, ...]], order: str, georeferenced: bool
) -> StripLayout | None:
    bands = tags.get(_BANDS, (1,))[0]
    bits = set(tags[_BITS])
    kinds = set(tags.get(_SAMPLE_FORMAT, (1,)))
    plain = tags.get(_COMPRESSION, (1,)) == (1,) and tags.get(_FILL_ORDER, (1,)) == (1,)
    if not plain or len(bits) != 1 or len(kinds) != 1:
        return None
    try:
        dtype = np.dtype(f"{order}{_SAMPLE_KINDS[kinds.pop()]}{bits.pop() // 8}")
    except (KeyError, TypeError):
        return None
    offsets = np.array(tags[_STRIP_OFFSETS], np.int64)
    lengths = np.array(tags[_STRIP_BYTES], np.int64)
    by_pixel = tags.get(_PLANAR, (1,))[0] == 1
    layout = StripLayout(
        tags[_HEIGHT][0], tags[_WIDTH][0], bands, dtype, by_pixel, int(offsets[0]), georeferenced
    )
    whole = layout.offset + int(lengths.sum()) == layout.end
    return layout if whole and _follow_each_other(offsets, lengths) else None


def _follow_each_other(offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> bool:
    same_count = len(offsets) == len(lengths)
    return same_count and bool((offsets[1:] == offsets[:-1] + lengths[:-1]).all())
