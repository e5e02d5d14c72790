import os
import struct

import numpy as np
import pytest
from crc32c import crc32c

from biomassters.chips.store.layout import IMAGE_ARRAYS
from biomassters.chips.store.manifest import Slot
from biomassters.chips.store.shards import Shard, packed_chip, shard_parts, values_checksum
from biomassters.errors import BadInputError

LEFT_OUT = 2**64 - 1


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_packing_is_a_function_of_the_chip(made_chips, codec):
    """Of its pixels and the codec alone, and only of images that exist."""
    chip, slot = made_chips().chip("a1"), Slot("train", 3, "a1", "source")
    record, files = packed_chip(chip, slot, codec)
    assert record.slot == slot
    assert (
        list(files)
        == record.shard_keys()
        == ["train/s1/c.3.0.0.0.0", "train/s2/c.3.0.0.0.0", "train/agb/c.3.0.0"]
    )
    for number, array in enumerate(IMAGE_ARRAYS):
        there = [crc != 0 for crc in record.chunk_crcs[array.name]]
        assert there == chip.present[:, number].tolist()
    again, same_files = packed_chip(made_chips().chip("a1"), slot, codec)
    assert again == record
    assert {k: b"".join(v) for k, v in files.items()} == {
        k: b"".join(v) for k, v in same_files.items()
    }


def test_a_chip_without_a_label_or_an_image_has_no_file_for_it(made_chips):
    chip = made_chips().chip("e5")
    chip.present[:, 1] = False
    record, files = packed_chip(chip, Slot("test", 0, "e5", ""), "lz4")
    assert list(files) == record.shard_keys() == ["test/s1/c.0.0.0.0.0"]


def test_checksum_tells_an_absent_image_from_zeros_and_covers_the_label():
    zeros = np.zeros((2, 2), np.uint16)
    label = np.ones((2, 2), np.float32)
    sums = {
        values_checksum([zeros, None], None),
        values_checksum([None, zeros], None),
        values_checksum([zeros, zeros], None),
        values_checksum([zeros, zeros], label),
        values_checksum([zeros, zeros], 2 * label),
    }
    assert len(sums) == 5


def chunks(*contents):
    return [content and (content, crc32c(content)) for content in contents]


def stored(content):
    return content + struct.pack("<I", crc32c(content))


def test_layout_by_hand():
    content = b"".join(shard_parts(chunks(b"abc", None, b"de")))
    index = struct.pack("<6Q", 0, 7, LEFT_OUT, LEFT_OUT, 7, 6)
    assert content == stored(b"abc") + stored(b"de") + index + struct.pack("<I", crc32c(index))


@pytest.fixture
def opened(tmp_path):
    def open_bytes(content, chunk_count):
        path = tmp_path / "shard"
        path.write_bytes(content)
        return Shard("shard", os.open(path, os.O_RDONLY), chunk_count)

    return open_bytes


def read(shard, number, **options):
    out = bytearray(shard.chunk_size(number) - options.get("skip", 0))
    shard.read_into(number, memoryview(out), **options)
    return bytes(out)


def test_reads_what_was_written(opened):
    shard = opened(b"".join(shard_parts(chunks(b"abc", None, b"defg"))), 3)
    assert shard.chunk_size(1) is None
    assert (read(shard, 0), read(shard, 2)) == (stored(b"abc"), stored(b"defg"))
    assert read(shard, 2, skip=3) == stored(b"defg")[3:]


def test_a_file_that_is_one_chunk(opened):
    shard = opened(b"abc", None)
    assert read(shard, 0) == b"abc"


def damaged(content):
    flipped = bytearray(content)
    flipped[-10] ^= 1
    index = struct.pack("<4Q", 0, 3, 3, 99)
    past_the_end = b"abcde" + index + struct.pack("<I", crc32c(index))
    return {
        "wrong checksum": bytes(flipped),
        "no index": content[:20],
        "past the data": past_the_end,
    }


@pytest.mark.parametrize("reason", ["wrong checksum", "no index", "past the data"])
def test_damage_is_named(opened, reason):
    content = damaged(b"".join(shard_parts(chunks(b"abc", b"de"))))[reason]
    with pytest.raises(BadInputError, match=f"shard is damaged .*{reason}.*packs its chip anew"):
        opened(content, 2)


def test_a_file_that_ends_while_it_is_read(opened, tmp_path):
    shard = opened(b"abc", None)
    os.truncate(tmp_path / "shard", 1)
    with pytest.raises(BadInputError, match="ends too early"):
        read(shard, 0)


def test_the_last_reference_closes_the_file(opened):
    shard = opened(b"abc", None)
    descriptor = shard._descriptor
    del shard
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
