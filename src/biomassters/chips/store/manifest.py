"""What a chip store says about itself: one record per chip, collected in its manifest."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from biomassters.chips.archive.layout import CHIP_ID
from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.store.layout import CODECS, FORMAT_VERSION
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference

# Names become paths and sizes become memory, and a manifest may be anybody's. The archive's reader
# takes 256 MiB of a file, which square images of 3,490 pixels have.
_MOST_PIXELS = 4096
_Text = Annotated[str, Field(strict=True)]
_Name = Annotated[str, Field(strict=True, pattern=f"^{CHIP_ID}$")]
_Split = Annotated[str, Field(strict=True, pattern="^[A-Za-z0-9_-]+$")]
_Index = Annotated[int, Field(strict=True, ge=0)]
_Side = Annotated[int, Field(strict=True, ge=1, le=_MOST_PIXELS)]
_Crc = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
_Flag = Annotated[bool, Field(strict=True)]
_Months = Annotated[str, Field(strict=True, pattern=f"^[0-3]{{{MONTH_COUNT}}}$")]


@dataclass(frozen=True)
class ChipRecord:
    """One packed chip.

    Attributes:
        split: Split that it belongs to.
        index: Its place in the split's arrays.
        chip_id: Its name.
        signature: Signature of the source files that it was packed from.
        crc: CRC-32C of its packed values, the same by whatever codec.
        chunk_crcs: By array the CRC-32C of each encoded chunk; 0 where there is none.
        height: Pixels.
        width: Pixels.
        present: Per month one character: 0 no image, 1 Sentinel-1, 2 Sentinel-2, 3 both.
        labelled: Whether it has a label.
        georeference: Where it lies, or None.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    split: _Split
    index: _Index
    chip_id: _Name
    signature: _Text
    crc: _Crc
    chunk_crcs: Mapping[str, Sequence[_Crc]]
    height: _Side
    width: _Side
    present: _Months
    labelled: _Flag
    georeference: Georeference | None

    @classmethod
    def of(
        cls,
        chip: Chip,
        split: str,
        index: int,
        signature: str,
        crc: int,
        chunk_crcs: Mapping[str, Sequence[int]],
    ) -> "ChipRecord":
        """Describe a chip that has just been packed."""
        weights = 1 << np.arange(len(SENSORS))
        present = "".join(str(code) for code in chip.present @ weights)
        return cls(
            split,
            index,
            chip.chip_id,
            signature,
            crc,
            chunk_crcs,
            *chip.shape,
            present=present,
            labelled=chip.agb_mg_per_ha is not None,
            georeference=chip.georeference,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ChipRecord":
        """Undo ``to_dict``."""
        where = values["georeference"]
        if where is not None:
            where = Georeference(where["crs"], tuple(where["transform"]))
        return cls(**{**values, "georeference": where})

    def to_dict(self) -> dict[str, Any]:
        """The record, ready for JSON."""
        return asdict(self)

    def present_mask(self) -> NDArray[np.bool_]:
        """Bool [12, 2]: images that exist, by month and sensor."""
        codes = np.array([int(code) for code in self.present])[:, None]
        assert len(codes) == MONTH_COUNT
        return (codes >> np.arange(len(SENSORS)) & 1).astype(bool)


@dataclass(frozen=True)
class Manifest:
    """A complete store.

    Attributes:
        codec: How its chunks are encoded.
        records: All chips, by split and index.
        origin: Where they come from, as the archive says: ``dataset``, ``simulated``; empty in
            older stores. Not part of the fingerprint.
    """

    codec: str
    records: tuple[ChipRecord, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order of packing."""
        return tuple(dict.fromkeys(record.split for record in self.records))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names and checksums of all chips; independent of order and codec."""
        lines = sorted(f"{record.chip_id} {record.crc}\n" for record in self.records)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def of_split(self, split: str) -> list[ChipRecord]:
        """Records of a split, by index."""
        return [record for record in self.records if record.split == split]

    def sources(self) -> dict[str, dict[str, str]]:
        """Per split the signature of each chip's source, in order."""
        return source_table((r.split, r.chip_id, r.signature) for r in self.records)

    def to_json(self) -> str:
        """The manifest as text, one chip a line."""
        head = {
            "format": "biomassters chip store",
            "version": FORMAT_VERSION,
            "codec": self.codec,
            "fingerprint": self.fingerprint,
            "origin": dict(self.origin),
        }
        chips = [record.to_dict() for record in self.records]
        head["checksum"] = _checksum({**head, "chips": chips})
        lines = ",\n".join(map(json.dumps, chips))
        return json.dumps(head)[:-1] + ',\n"chips": [\n' + lines + "\n]}\n"

    @classmethod
    def from_json(cls, text: str | bytes, place: str) -> "Manifest":
        """Undo ``to_json``.

        Args:
            text: The manifest's text.
            place: The store's path, for messages.

        Returns:
            The manifest.

        Raises:
            BadInputError: The text is none of ours, or of a version that this release doesn't know.
        """
        try:
            values = json.loads(text)
            version = values["version"]
            if version == FORMAT_VERSION:
                if values.pop("checksum") != _checksum(values):
                    raise ValueError("checksum")
                records = _checked_records(values["chips"])
                if values["codec"] not in CODECS:
                    raise ValueError("codec")
                return cls(values["codec"], records, dict(values["origin"]))
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


def _damaged(place: str, reason: str = "") -> BadInputError:
    return BadInputError(
        f"The chip store {place} has a damaged manifest{reason}: run the pipeline "
        "data_engineering, which packs it again."
    )


@cache
def _adapter() -> TypeAdapter[tuple[ChipRecord, ...]]:
    return TypeAdapter(tuple[ChipRecord, ...])


def _checked_records(chips: Any) -> tuple[ChipRecord, ...]:
    """Records that fit each other: in a split one size, each name once, no gap in the order."""
    records = _adapter().validate_python(chips)
    if not records:
        raise ValueError("no chip")
    known: dict[str, list[ChipRecord]] = {}
    for record in records:
        known.setdefault(record.split, []).append(record)
    for split in known.values():
        sizes = {(record.height, record.width) for record in split}
        names = {record.chip_id for record in split}
        if len(sizes) > 1 or len(names) < len(split):
            raise ValueError("sizes or names")
        if [record.index for record in split] != list(range(len(split))):
            raise ValueError("order")
    return records


def _checksum(values: Mapping[str, Any]) -> str:
    """SHA-256 over all that a manifest says; a damaged or edited one is noticed."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def source_table(entries: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    """Collect (split, chip_id, signature) as ``{split: {chip_id: signature}}``, in order."""
    table: dict[str, dict[str, str]] = {}
    for split, chip_id, signature in entries:
        table.setdefault(split, {})[chip_id] = signature
    return table
