"""A damaged store is noticed, named and mended; never read as other images."""

import json
import random
import shutil
import struct

import numpy as np
import pytest
from crc32c import crc32c

from biomassters.chips.store.layout import ARRAYS, IMAGE_ARRAYS
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError

CODECS = ["lz4", "zstd", "none"]


@pytest.fixture(scope="module", params=CODECS)
def packed(request, tmp_path_factory, made_chips):
    path = tmp_path_factory.mktemp(request.param) / "store.zarr"
    write_store(path, made_chips(), codec=request.param)
    return path


@pytest.fixture
def path(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "store.zarr")


def everything(path):
    """All values of a store, read as training reads them, once in windows and once whole."""
    values = []
    store = ChipStore(path)
    for split in map(store.split, store.splits):
        for index in range(len(split)):
            window = {"s1": np.empty((4, 8, 16), np.int16), "s2": np.empty((11, 8, 16), np.uint16)}
            for month in range(12):
                split.read_month_into(index, month, window, 8, 8)
                values += [image.tobytes() for image in window.values()]
            chip = split.read_chip(index)
            label = b"" if chip.agb_mg_per_ha is None else chip.agb_mg_per_ha.tobytes()
            values += [chip.chip_id, *(year.tobytes() for year in chip.images.values()), label]
    return values


def test_no_flipped_bit_is_read_as_another_image(path):
    """Refused, or harmless: it lies in what only other software reads."""
    expected = everything(path)
    generator = random.Random(20261125)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    refused = 0
    for file in generator.choices(files, k=60):
        content = file.read_bytes()
        place = generator.randrange(len(content))
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        file.write_bytes(damaged)
        try:
            found = everything(path)
        except BadInputError:
            refused += 1
        else:
            assert found == expected, f"{file.relative_to(path)}, byte {place}"
        file.write_bytes(content)
    assert refused > 20


def test_every_byte_of_a_chunk_counts(path, packed):
    place = path / "train" / "s2" / IMAGE_ARRAYS[1].file_name(1)
    content = place.read_bytes()
    for position in range(0, len(content), 997):
        place.write_bytes(
            content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :]
        )
        with pytest.raises(BadInputError, match=r"s2/c\.1\..* is damaged .* delete this file"):
            ChipStore(path).split("train").read_chip(1)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.name)
def test_two_files_that_were_swapped(path, array):
    one, other = (path / "train" / array.name / array.file_name(chip) for chip in (0, 3))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    with pytest.raises(BadInputError, match=r"another chip's file|a chunk was left out"):
        ChipStore(path).split("train").read_chip(0)


def test_a_month_marked_as_left_out(path):
    place = path / "train" / "s1" / IMAGE_ARRAYS[0].file_name(0)
    content = place.read_bytes()
    index = bytearray(content[-12 * 16 - 4 : -4])
    month = int(np.flatnonzero(ChipStore(path).split("train").present[0, :, 0])[0])
    index[month * 16 : month * 16 + 16] = b"\xff" * 16
    place.write_bytes(content[: -12 * 16 - 4] + index + struct.pack("<I", crc32c(index)))
    with pytest.raises(BadInputError, match="a chunk was left out"):
        ChipStore(path).split("train").read_chip(0)


def edited(path, edit):
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def inner_codecs(metadata):
    return metadata["codecs"][0]["configuration"]["codecs"]


EDITS = {
    "transposed": lambda metadata: inner_codecs(metadata).insert(
        0, {"name": "transpose", "configuration": {"order": [0, 1, 2, 4, 3]}}
    ),
    "big-endian": lambda metadata: inner_codecs(metadata)[0].update(
        configuration={"endian": "big"}
    ),
    "another type": lambda metadata: metadata.update(data_type="int32"),
    "another shape": lambda metadata: metadata["shape"].__setitem__(0, 3),
    "index elsewhere": lambda metadata: metadata["codecs"][0]["configuration"].update(
        index_location="start"
    ),
    "other unit": lambda metadata: metadata["attributes"].update(scale_factor=0.1),
    "without checksums": lambda metadata: inner_codecs(metadata).pop(),
}


@pytest.mark.parametrize("edit", EDITS)
def test_metadata_that_were_changed_are_refused_and_mended(path, made_chips, edit):
    expected = everything(path)
    edited(path / "train" / "s1" / "zarr.json", EDITS[edit])
    with pytest.raises(BadInputError, match=r"s1/zarr\.json is not what was written"):
        everything(path)
    source = made_chips()
    write_store(path, source, codec=ChipStore(path).codec)
    assert source.reads == []
    assert everything(path) == expected


def test_what_is_no_json(path):
    (path / "train" / "s1" / "zarr.json").write_bytes(b"\xff\x00[")
    with pytest.raises(BadInputError, match=r"s1/zarr\.json is missing or damaged"):
        everything(path)


def test_the_sentence_mends_a_damaged_chip(path, made_chips):
    """Delete this file, run the pipeline again: one chip is packed, not the whole archive."""
    expected = everything(path)
    damaged = path / "train" / "s2" / IMAGE_ARRAYS[1].file_name(2)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(BadInputError, match="packs its chip anew"):
        everything(path)
    damaged.unlink()
    source = made_chips()
    write_store(path, source, codec=ChipStore(path).codec)
    assert source.reads == ["c3"]
    assert everything(path) == expected
