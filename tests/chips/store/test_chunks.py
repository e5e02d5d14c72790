import struct

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biomassters.chips.bands import S1
from biomassters.chips.store.chunks import (
    pack,
    packed_chip,
    shard_parts,
    unpack,
    values_checksum,
)
from biomassters.chips.store.layout import IMAGE_ARRAYS
from biomassters.chips.store.manifest import Slot

LEFT_OUT = 2**64 - 1


def test_values_worked_by_hand():
    values = np.array([-12.7, 0.0, 0.004, 0.006, -9999.0, 400.0, -400.0], np.float32)
    expected = [-1270, 0, 0, 1, -32768, 32767, -32768]
    assert pack(S1, values).tolist() == expected
    back = unpack(S1, np.array([-1270, -32768, 32767], np.int16))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, [-12.7, -9999, 327.67], rtol=1e-6)


@pytest.mark.parametrize("value", [-9998.99, -9000.0, -330.0, -100.01])
def test_no_data_that_was_resampled_is_no_data(value):
    """It used to become −327.67 dB, which a network takes for backscatter."""
    assert pack(S1, np.array([value, -99.99], np.float32)).tolist() == [-32768, -9999]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_is_no_data(value):
    assert pack(S1, np.array([value], np.float32)) == -32768


@given(arrays(np.float32, 20, elements=st.floats(-80, 50, width=32)))
def test_off_by_half_a_step_at_most(backscatter_db):
    back = unpack(S1, pack(S1, backscatter_db))
    assert np.abs(back.astype(float) - backscatter_db).max() <= 0.005 + 1e-5


def test_result_is_contiguous_whatever_the_source():
    image = np.moveaxis(np.zeros((5, 6, 4), np.float32), -1, 0)
    assert pack(S1, image).flags.c_contiguous


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
