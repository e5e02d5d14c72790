"""What a chip store says about itself: a record per chip, the manifest of all, Zarr's metadata.

The manifest is written last and makes a store readable; until then each packed chip's record lies
in a file of its own, and says that the chip is done. Zarr's metadata turn shard files in
``<split>/<array>/`` into a hierarchy that zarr-python and xarray open. Next: ``reader.py``,
``writer.py``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, StrictBool, StrictStr, TypeAdapter, ValidationError

from biomassters.chips.archive.layout import CHIP_ID
from biomassters.chips.bands import MONTH_COUNT, MONTH_NAMES, SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.store.layout import (
    AGB_ARRAY,
    ARRAYS,
    CODECS,
    FORMAT_VERSION,
    MANIFEST_NAME,
    RECORDS,
    partial_place,
)
from biomassters.chips.store.store_files import files_at
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference
from biomassters.io.storage import Place, state

if TYPE_CHECKING:  # takes long to import, and only a finished store needs it
    from zarr.abc.buffer import Buffer

_MOST_BYTES = 2**30  # of a manifest: 3 KB a chip, for a hundred thousand of them
# Names become paths and sizes become memory, and a manifest may be anybody's. The archive's reader
# takes 256 MiB of a file, which square images of 3,490 pixels have.
_MOST_PIXELS = 4096
_Name = Annotated[str, Field(strict=True, pattern=f"^{CHIP_ID}$")]
_Split = Annotated[str, Field(strict=True, pattern="^[A-Za-z0-9_-]+$")]
_Index = Annotated[int, Field(strict=True, ge=0)]
_Side = Annotated[int, Field(strict=True, ge=1, le=_MOST_PIXELS)]
_Crc = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
_CODES = "0123456789abcdef"[: 2 ** len(SENSORS)]
_Months = Annotated[str, Field(strict=True, pattern=f"^[{_CODES}]{{{MONTH_COUNT}}}$")]


@dataclass(frozen=True)
class Slot:
    """A chip's place in a store (its split, its index in the split's arrays), and its source."""

    split: _Split
    index: _Index
    chip_id: _Name
    signature: StrictStr  # changes when the files change that the chip is packed from

    @property
    def record_key(self) -> str:
        """Name of the file that says that the chip is packed."""
        return f"{RECORDS}{self.split}/{self.index}.json"


@dataclass(frozen=True)
class ChipRecord(Slot):
    """One packed chip."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    crc: _Crc  # CRC-32C of its packed values, the same by whatever codec
    # By array the CRC-32C of each encoded chunk; 0 where there is none.
    chunk_crcs: Mapping[str, Sequence[_Crc]]
    height: _Side
    width: _Side
    # Per month a hexadecimal digit with a bit a sensor, the first one's lowest: 0 no image, 1
    # Sentinel-1, 2 Sentinel-2, 3 both.
    present: _Months
    labelled: StrictBool
    georeference: Georeference | None  # where it lies, or None

    @classmethod
    def of(
        cls, chip: Chip, slot: Slot, crc: int, chunk_crcs: Mapping[str, Sequence[int]]
    ) -> "ChipRecord":
        """Describe a chip that has just been packed."""
        codes = chip.present @ (1 << np.arange(len(SENSORS)))
        return cls(
            **vars(slot),
            crc=crc,
            chunk_crcs=chunk_crcs,
            height=chip.shape[0],
            width=chip.shape[1],
            present="".join(_CODES[code] for code in codes),
            labelled=chip.agb_mg_per_ha is not None,
            georeference=chip.georeference,
        )

    @property
    def slot(self) -> Slot:
        """Where it lies, and what it was packed from."""
        return Slot(self.split, self.index, self.chip_id, self.signature)

    def present_mask(self) -> NDArray[np.bool_]:
        """Bool [12, sensors]: images that exist, by month and sensor."""
        codes = np.array([int(code, 16) for code in self.present])[:, None]
        return (codes >> np.arange(len(SENSORS)) & 1).astype(bool)

    def shard_keys(self) -> list[str]:
        """Names of its files in the store, as in ``ARRAYS``."""
        seen = (months.any() for months in self.present_mask().T)
        there = compress(ARRAYS, (*seen, self.labelled))
        return [array.key(self.split, self.index) for array in there]

    def to_bytes(self) -> bytes:
        """The record as a file of its own, with a checksum."""
        text = json.dumps(asdict(self)).encode()
        return b"%08x %s\n" % (crc32c(text), text)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ChipRecord | None":
        """Undo ``to_bytes``; None where a power cut has torn the file, or it is damaged."""
        crc, _, text = data.rstrip(b"\n").partition(b" ")
        with suppress(ValueError):
            if crc == b"%08x" % crc32c(text):
                return _adapter().validate_python([json.loads(text)])[0]
        return None


@dataclass(frozen=True)
class Manifest:
    """A complete store."""

    codec: str  # how its chunks are encoded
    records: tuple[ChipRecord, ...]  # all chips, by split and index
    # Where they come from, as the archive says: ``dataset``, ``simulated``; empty in older stores.
    # Not part of the fingerprint.
    origin: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def splits(self) -> dict[str, list[ChipRecord]]:
        """Records of each split by index, the splits in the order of packing."""
        found: dict[str, list[ChipRecord]] = {}
        for record in self.records:
            found.setdefault(record.split, []).append(record)
        return found

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names and checksums of all chips; independent of order and codec."""
        lines = sorted(f"{record.chip_id} {record.crc}\n" for record in self.records)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def to_json(self) -> str:
        """The manifest as text, one chip a line."""
        head = {
            "format": "biomassters chip store",
            "version": FORMAT_VERSION,
            "codec": self.codec,
            "fingerprint": self.fingerprint,
            "origin": dict(self.origin),
        }
        chips = [asdict(record) for record in self.records]
        head["checksum"] = _checksum({**head, "chips": chips})
        lines = ",\n".join(map(json.dumps, chips))
        return json.dumps(head)[:-1] + ',\n"chips": [\n' + lines + "\n]}\n"

    @classmethod
    def from_json(cls, text: str | bytes, place: str) -> "Manifest":
        """Undo ``to_json``; ``place`` is the store's path, for messages.

        Raises:
            BadInputError: The text is none of ours, or of a version that this release doesn't know.
        """
        try:
            values = json.loads(text)
            version = values["version"]
            if version == FORMAT_VERSION:
                if values.pop("checksum") != _checksum(values):
                    raise ValueError("checksum")
                records = _adapter().validate_python(values["chips"])
                manifest = cls(values["codec"], records, dict(values["origin"]))
                if not manifest._fits():
                    raise ValueError("parts that don't fit")
                return manifest
        except ValidationError as error:
            first = error.errors()[0]
            number, *name = first["loc"] or ("?",)
            where = f"{'.'.join(map(str, name)) or 'record'} of chip {number}"
            got = f"{first['msg'].lower()}, got {str(first['input'])[:40]!r}"
            raise _damaged(place, f" ({where}: {got})") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _damaged(place) from None
        raise BadInputError(
            f"The chip store {place} has format version {version!r}, but this release reads "
            f"version {FORMAT_VERSION}: pack it again, or install the release that wrote it."
        )

    def _fits(self) -> bool:
        """Whether the codec is known, and chips of a split have one size, own names, no gap."""
        whole = (
            len({(record.height, record.width) for record in split}) == 1
            and len({record.chip_id for record in split}) == len(split)
            and [record.index for record in split] == list(range(len(split)))
            for split in self.splits.values()
        )
        return self.codec in CODECS and bool(self.records) and all(whole)


def _damaged(place: str, reason: str = "") -> BadInputError:
    return BadInputError(
        f"The chip store {place} has a damaged manifest{reason}: run the pipeline "
        "data_engineering, which packs it again."
    )


@cache
def _adapter() -> TypeAdapter[tuple[ChipRecord, ...]]:
    return TypeAdapter(tuple[ChipRecord, ...])


def _checksum(values: Mapping[str, Any]) -> str:
    """SHA-256 over all that a manifest says; a damaged or edited one is noticed."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Place) -> Manifest:
    """Read the manifest of a complete store in a folder or at a URL.

    Raises:
        BadInputError: There is no store, it is unfinished or damaged, or of an unknown version.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        return Manifest.from_json(files_at(path).read(MANIFEST_NAME, _MOST_BYTES), str(path))
    if files_at(partial_place(path)).listing():
        raise BadInputError(
            f"The chip store {path} is unfinished: run the pipeline data_engineering again, it "
            "continues where it stopped."
        )
    raise BadInputError(
        f"There is no finished chip store at {path}, because it has no {MANIFEST_NAME}: run the "
        "pipeline data_engineering, which packs one."
    )


def manifest_mark(path: Place) -> object:
    """Something that changes when a store is replaced by another; None where there is none."""
    if not isinstance(path, Path):
        return state(f"{path}/{MANIFEST_NAME}")
    try:
        status = (path / MANIFEST_NAME).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


# ---- Zarr's metadata and small arrays of a store whose chips are all written


def metadata_files(manifest: Manifest) -> dict[str, list[bytes]]:
    """Content of each metadata file by its key, in pieces."""
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Buffer] = {}
    root = zarr.open_group(MemoryStore(files), mode="w", zarr_format=3)
    root.attrs.update({"Conventions": "CF-1.11", "title": "BioMassters chip store"})
    for split, records in manifest.splits.items():
        group = root.require_group(split)
        group.attrs.update({"Conventions": "CF-1.11", "coordinates": "chip_id month_name"})
        for name, (axes, values, long_name) in _coordinates(records).items():
            group.create_array(
                name,
                data=values,
                chunks=values.shape,
                dimension_names=axes,
                attributes={"long_name": long_name},
            )
    written = {key: [content.to_bytes()] for key, content in files.items()}
    return written | {
        f"{name}/zarr.json": [json.dumps(metadata, indent=2).encode()]
        for name, metadata in array_metadata(manifest).items()
    }


def array_metadata(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The ``zarr.json`` of each array of pixels, by ``<split>/<array>``."""
    described = {}
    for split, records in manifest.splits.items():
        shape = len(records), records[0].height, records[0].width
        for array in ARRAYS:
            if array is not AGB_ARRAY or any(record.labelled for record in records):
                described[f"{split}/{array.name}"] = array.metadata(*shape, manifest.codec)
    return described


def _coordinates(records: Sequence[ChipRecord]) -> dict[str, tuple[Sequence[str], NDArray, str]]:
    """Small arrays of a split by name: axes, values, and what they are."""
    # The only text type with a Zarr v3 specification, hence without a warning.
    text = np.dtypes.StringDType()
    bands = {f"{sensor.name}_band": sensor for sensor in SENSORS}
    names = np.array([record.chip_id for record in records], text)
    months = np.arange(MONTH_COUNT, dtype=np.int8)
    sensors = np.array([sensor.name for sensor in SENSORS], text)
    present = np.stack([record.present_mask() for record in records])
    return {
        "chip_id": (["chip"], names, "Name of the chip"),
        "month": (["month"], months, "Month, 0 (September) to 11 (August)"),
        "month_name": (["month"], np.array(MONTH_NAMES, text), "Name of the month"),
        **{axis: ([axis], np.array(s.bands, text), s.band_axis) for axis, s in bands.items()},
        "sensor": (["sensor"], sensors, "Satellite"),
        "present": (["chip", "month", "sensor"], present, "Whether the month has an image"),
    }
