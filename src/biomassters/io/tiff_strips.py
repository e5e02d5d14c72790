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
    """Pixels that lie in one piece."""

    height: int
    width: int
    bands: int
    dtype: np.dtype  # with its byte order
    by_pixel: bool  # the bands of one pixel lie together; otherwise band follows band
    offset: int  # bytes before the first pixel
    georeferenced: bool  # the file says where it lies

    @property
    def end(self) -> int:
        """Bytes up to the end of the last pixel."""
        return self.offset + self._count * self.dtype.itemsize

    @property
    def _count(self) -> int:
        return self.height * self.width * self.bands

    def pixels(self, data: Buffer) -> NDArray:
        """View of a whole file's pixels: [bands, height, width]."""
        values = np.frombuffer(data, self.dtype, self._count, self.offset)
        if self.by_pixel:
            return values.reshape(self.height, self.width, self.bands).transpose(2, 0, 1)
        return values.reshape(self.bands, self.height, self.width)


def parse_strip_layout(data: Buffer) -> StripLayout | None:
    """The layout in a TIFF's header, of which ``data`` begins with the whole.

    None where this is not an uncompressed TIFF of contiguous strips.
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
        if tag not in _USED or code is None or length == 0:
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
    dtype = _dtype(tags, order)
    plain = tags.get(_COMPRESSION, (1,)) == (1,) and tags.get(_FILL_ORDER, (1,)) == (1,)
    if dtype is None or not plain:
        return None
    height, width, bands = tags[_HEIGHT][0], tags[_WIDTH][0], tags.get(_BANDS, (1,))[0]
    offsets, lengths = (np.array(tags[tag], np.int64) for tag in (_STRIP_OFFSETS, _STRIP_BYTES))
    if len(offsets) != len(lengths) or (offsets[1:] != (offsets + lengths)[:-1]).any():
        return None
    by_pixel = tags.get(_PLANAR, (1,))[0] == 1
    layout = StripLayout(height, width, bands, dtype, by_pixel, int(offsets[0]), georeferenced)
    return layout if layout.offset + int(lengths.sum()) == layout.end else None


def _dtype(tags: dict[int, tuple[int, ...]], order: str) -> np.dtype | None:
    """Type of the values, None where bands differ or numpy has no such type."""
    bits, kinds = set(tags[_BITS]), set(tags.get(_SAMPLE_FORMAT, (1,)))
    if len(bits) != 1 or len(kinds) != 1:
        return None
    try:
        return np.dtype(f"{order}{_SAMPLE_KINDS[kinds.pop()]}{bits.pop() / 8:g}")
    except (KeyError, TypeError):
        return None
