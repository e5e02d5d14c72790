"""A lazy handle on a chip store, for any number of threads and processes.

Nothing is read before it is asked for, and then straight into the caller's arrays (``shards.py``).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.store.layout import AGB_ARRAY, IMAGE_ARRAYS, StoreArray
from biomassters.chips.store.manifest import ChipRecord, manifest_mark, read_manifest
from biomassters.chips.store.shards import PackedArray
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference
from biomassters.io.storage import Place, place_of


class ChipStore:
    """A complete chip store.

    The handle pickles as its path; opened again elsewhere it insists on the same data.

    Attributes:
        splits: Names of its splits.
        codec: How its chunks are encoded.
        origin: Where the chips come from: ``dataset``, ``simulated``; empty: unknown.

    Args:
        path: Folder, or URL that fsspec knows.
        fingerprint: SHA-256 over names and checksums of the chips that the store must hold, or
            None for any.

    Raises:
        BadInputError: There is no store, it is unfinished or of an unknown version, or it
            holds other data.
    """

    def __init__(self, path: Place, fingerprint: str | None = None) -> None:
        self.path = place_of(path)
        self._mark = manifest_mark(self.path)
        manifest = read_manifest(self.path)
        self.splits = tuple(manifest.splits)
        self.fingerprint = manifest.fingerprint
        self.codec = manifest.codec
        self.origin = manifest.origin
        self._splits = {
            name: StoreSplit(self, records) for name, records in manifest.splits.items()
        }
        if fingerprint not in (None, self.fingerprint):
            raise _replaced(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return ChipStore, (self.path, self.fingerprint)

    def split(self, name: str) -> "StoreSplit":
        """The chips of ``"train"`` or ``"test"``; raises BadInputError where there are none."""
        if name not in self._splits:
            raise BadInputError(
                f"The chip store {self.path} has no split {name!r}, only "
                f"{', '.join(self.splits)}: pack an archive that has one."
            )
        return self._splits[name]


class StoreSplit:
    """The chips of one split, each known by its index.

    Attributes:
        name: Name of the split.
        chip_ids: Name of each chip.
        present: bool [N, 12, sensors], images that exist, by chip, month and sensor.
        has_agb: Whether any chip has a label.
    """

    def __init__(self, store: ChipStore, records: list[ChipRecord]) -> None:
        self._path, self._fingerprint, self._mark = store.path, store.fingerprint, store._mark
        self._records, self._codec = records, store.codec
        self.name = records[0].split
        self.chip_ids = tuple(record.chip_id for record in records)
        self.height, self.width = records[0].height, records[0].width
        self.present = np.stack([record.present_mask() for record in records])
        self.present.flags.writeable = False
        self.has_agb = any(record.labelled for record in records)
        self._readers: dict[str, PackedArray] = {}

    def __len__(self) -> int:
        return len(self.chip_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_split, (self._path, self._fingerprint, self.name)

    def georeference(self, index: int) -> Georeference | None:
        """Where a chip lies, or None."""
        return self._records[index].georeference

    def read_month_into(
        self, index: int, month: int, out: Mapping[str, NDArray[Any]], top: int = 0, left: int = 0
    ) -> None:
        """Read the images of one month, 0 (September) to 11, or a window of them.

        Args:
            index: Which chip.
            month: Which month.
            out: By sensor [bands, h, w], filled with its packed integers; ``"s1"`` int16 in
                0.01 dB, −32768 without data, ``"s2"`` uint16 counts, 0 without data.
            top: First row of the window.
            left: First column of the window.

        Raises:
            BadInputError: A file of the store is damaged.
            ValueError: A wrong type or shape of an array, or a window beyond the chip.
        """
        chip = range(len(self))[index]
        for array, exists in zip(IMAGE_ARRAYS, self.present[chip, month], strict=True):
            image = out[array.name]
            self._check(array, image, top, left)
            if exists:
                self._reader(array).read_into(chip, month, image, top, left)
            else:
                image.fill(array.fill)

    def read_agb_into(
        self, index: int, out: NDArray[np.float32], top: int = 0, left: int = 0
    ) -> None:
        """Read a label, or a window of it: float32 [h, w], Mg/ha; NaN where the chip has no label.

        ``top`` and ``left`` are the first row and column of the window.

        Raises:
            BadInputError: A file of the store is damaged.
            ValueError: A wrong type or shape of the array, or a window beyond the chip.
        """
        chip = range(len(self))[index]
        self._check(AGB_ARRAY, out, top, left)
        if self._records[chip].labelled:
            self._reader(AGB_ARRAY).read_into(chip, 0, out, top, left)
        else:
            out.fill(AGB_ARRAY.fill)

    def read_chip(self, index: int) -> Chip:
        """A whole chip, back in dB and counts."""
        record = self._records[index]
        size = (self.height, self.width)
        packed = {
            array.name: np.empty((MONTH_COUNT, len(array.bands), *size), array.dtype)
            for array in IMAGE_ARRAYS
        }
        for month in range(MONTH_COUNT):
            self.read_month_into(index, month, {name: year[month] for name, year in packed.items()})
        agb = np.empty(size, AGB_ARRAY.dtype) if record.labelled else None
        if agb is not None:
            self.read_agb_into(index, agb)
        present = self.present[index].copy()
        images = {sensor.name: sensor.unpack(packed[sensor.name]) for sensor in SENSORS}
        return Chip(record.chip_id, self.name, images, present, agb, record.georeference)

    def _check(self, array: StoreArray, out: NDArray, top: int, left: int) -> None:
        height, width = out.shape[-2:]
        if out.dtype != array.dtype or out.shape != array.chunk_shape(height, width):
            raise ValueError(f"{array.name} can't be read into {out.dtype} {out.shape}.")
        if not (0 <= top <= self.height - height and 0 <= left <= self.width - width):
            raise ValueError(
                f"A window of {height} x {width} pixels at ({top}, {left}) leaves the chip of "
                f"{self.height} x {self.width} pixels."
            )

    def _reader(self, array: StoreArray) -> PackedArray:
        readers = self._readers
        if array.name not in readers:
            # Two threads may open it at once; one of the two is then dropped, and closed.
            try:
                reader = PackedArray(self._path, self.name, array, self._records, self._codec)
            finally:
                if manifest_mark(self._path) != self._mark:
                    raise _replaced(self._path)
            readers[array.name] = reader
        return readers[array.name]


def _open_split(path: Place, fingerprint: str, name: str) -> StoreSplit:
    return ChipStore(path, fingerprint).split(name)


def _replaced(path: Place) -> BadInputError:
    return BadInputError(f"The chip store {path} was replaced meanwhile: start again.")
