"""The files of one packed chip, one per array."""

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.chip import Chip
from biomassters.chips.durable_files import write_synced
from biomassters.chips.packing import checksum, pack_months
from biomassters.chips.shard import shard_parts
from biomassters.chips.store_layout import (
    AGB_ARRAY,
    ARRAYS,
    S1_ARRAY,
    S2_ARRAY,
    StoreArray,
    encode,
)
from biomassters.chips.store_manifest import ChipRecord

TEMPORARY_SUFFIX = ".tmp"


def make_array_folders(split_folder: Path) -> None:
    """Make the folders that a split's files go into."""
    for array in ARRAYS:
        (split_folder / array.name).mkdir(parents=True, exist_ok=True)


def write_chip(split_folder: Path, index: int, chip: Chip, codec: str) -> int:
    """Write a chip's files; when this returns their data is on the disk.

    Args:
        split_folder: The split's group.
        index: The chip's place in the arrays.
        chip: The chip.
        codec: The store's codec.

    Returns:
        Checksum of the packed values.
    """
    s1, s2 = pack_months(chip)
    label = chip.agb_mg_per_ha
    if label is not None:
        label = np.ascontiguousarray(label, AGB_ARRAY.dtype)
    for array, images in ((S1_ARRAY, s1), (S2_ARRAY, s2)):
        _write(split_folder, array, index, shard_parts(_encoded(images, codec)))
    _write(split_folder, AGB_ARRAY, index, [] if label is None else [encode(label, codec)])
    return checksum([*s1, *s2], label)


def has_files(split_folder: Path, record: ChipRecord) -> bool:
    """Whether a finished chip's files are there.

    Their data was waited for, their names were not, as that would double the waiting: after
    a power cut, some file systems have the one without the other.
    """
    s1, s2 = (bool(months.any()) for months in record.present_mask().T)
    needed = zip((S1_ARRAY, S2_ARRAY, AGB_ARRAY), (s1, s2, record.labelled), strict=True)
    return all(
        (split_folder / array.name / array.file_name(record.index)).exists()
        for array, exists in needed
        if exists
    )


def _encoded(images: Sequence[NDArray | None], codec: str) -> list[bytes | memoryview | None]:
    return [None if image is None else encode(image, codec) for image in images]


def _write(
    split_folder: Path, array: StoreArray, index: int, parts: Sequence[bytes | memoryview]
) -> None:
    """Write a file, or see to it that there is none when all of it is fill.

    It is never written in place: an older store may share it, and a worker that was given up
    may still be writing the same chip.
    """
    path = split_folder / array.name / array.file_name(index)
    if not parts:
        path.unlink(missing_ok=True)
        return
    temporary = temporary_path(path)
    try:
        write_synced(temporary, parts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Where this process, and no other on any machine, writes a file before it has its name."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{TEMPORARY_SUFFIX}")


def link_chip(old: Path, old_index: int, new: Path, new_index: int) -> None:
    """Give the files of a packed chip to another store as well; copies where links can't.

    Args:
        old: Group of the split in the store that has the chip.
        old_index: The chip's place there.
        new: Group in the other store.
        new_index: Place there.
    """
    for array in ARRAYS:
        source = old / array.name / array.file_name(old_index)
        target = new / array.name / array.file_name(new_index)
        target.unlink(missing_ok=True)
        if not source.exists():
            continue
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def remove_temporary(folder: Path) -> None:
    """Delete what workers that were killed have left."""
    for path in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)
