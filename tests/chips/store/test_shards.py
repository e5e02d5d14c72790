import os
import struct

import pytest
from crc32c import crc32c

from biomassters.chips.store.chunks import shard_parts
from biomassters.chips.store.shards import Shard
from biomassters.errors import BadInputError


def chunks(*contents):
    return [content and (content, crc32c(content)) for content in contents]


def stored(content):
    return content + struct.pack("<I", crc32c(content))


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
