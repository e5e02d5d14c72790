"""The files of one packed chip, one per array."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.chip import Chip
from biomassters.chips.store.integers import checksum, pack_months
from biomassters.chips.store.layout import (
    AGB_ARRAY,
    ARRAYS,
    S1_ARRAY,
    S2_ARRAY,
    EncodedChunk,
    StoreArray,
    encode,
)
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.place import StorePlace
from biomassters.chips.store.shard import shard_parts


def write_chip(
    place: StorePlace, split: str, index: int, chip: Chip, codec: str
) -> tuple[int, dict[str, list[int]]]:
    """Write a chip's files; when this returns their data is safe.

    Args:
        place: Where the store lies.
        split: The split's group.
        index: The chip's place in the arrays.
        chip: The chip.
        codec: The store's codec.

    Returns:
        Checksum of the packed values, and by array those of the encoded chunks.
    """
    s1, s2 = pack_months(chip)
    label = chip.agb_mg_per_ha
    if label is not None:
        label = np.ascontiguousarray(label, AGB_ARRAY.dtype)
    chunks = [_encoded(images, codec) for images in (s1, s2, [label])]  # as in ARRAYS
    files = [
        shard_parts(chunks[0]),
        shard_parts(chunks[1]),
        chunks[2][0].parts if chunks[2][0] else [],
    ]
    place.put({key(split, array, index): parts for array, parts in zip(ARRAYS, files, strict=True)})
    crcs = {
        array.name: [chunk.crc if chunk else 0 for chunk in encoded]
        for array, encoded in zip(ARRAYS, chunks, strict=True)
    }
    return checksum([*s1, *s2], label), crcs


def key(split: str, array: StoreArray, index: int) -> str:
    """Key of a chip's file."""
    return f"{split}/{array.name}/{array.file_name(index)}"


def has_files(keys: Collection[str], record: ChipRecord) -> bool:
    """Whether a finished chip's files are among a store's keys.

    Their data was waited for, their names were not, as that would double the waiting: after
    a power cut, some file systems have the one without the other.
    """
    s1, s2 = (bool(months.any()) for months in record.present_mask().T)
    needed = zip((S1_ARRAY, S2_ARRAY, AGB_ARRAY), (s1, s2, record.labelled), strict=True)
    return all(key(record.split, array, record.index) in keys for array, exists in needed if exists)


def moved_keys(
    keys: Collection[str], old: ChipRecord, split: str, index: int
) -> dict[str, str | None]:
    """Keys of a chip's files in another store, and their keys in the one that has them.

    Args:
        keys: What the older store has.
        old: The chip there.
        split: The split's group in the other store.
        index: The chip's place there.
    """
    pairs = ((key(split, a, index), key(old.split, a, old.index)) for a in ARRAYS)
    return {new_key: old_key if old_key in keys else None for new_key, old_key in pairs}


def _encoded(images: Sequence[NDArray | None], codec: str) -> list[EncodedChunk | None]:
    return [None if image is None else encode(image, codec) for image in images]
