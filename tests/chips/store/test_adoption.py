"""A store that grows, shrinks or changes its codec takes over what is packed already."""

import pytest

from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store


def pack(path, source, codec="lz4"):
    return write_store(path, source, codec=codec, progress=False)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ({"train": ["b2", "a1"]}, []),
        ({"train": ["a0", "a1", "b2", "c3", "d4", "e0"], "test": ["e5"]}, ["a0", "e0"]),
    ],
)
def test_only_new_chips_are_read(tmp_path, made_chips, names, read):
    pack(tmp_path / "store", made_chips())
    source = made_chips(names=names)
    pack(tmp_path / "store", source)
    assert source.reads == read
    pack(tmp_path / "fresh", made_chips(names=names))
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "store"]


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_another_codec_is_packed_from_the_store(tmp_path, made_chips, codec):
    pack(tmp_path / "store", made_chips())
    source = made_chips()
    store = pack(tmp_path / "store", source, codec)
    assert source.reads == []
    assert store.codec == codec
    pack(tmp_path / "fresh", made_chips(), codec)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_damaged_chip_comes_from_the_archive(tmp_path, made_chips):
    pack(tmp_path / "store", made_chips())
    shard = tmp_path / "store" / "train" / "s1" / "c.1.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:100])
    source = made_chips()
    pack(tmp_path / "store", source, "none")
    assert source.reads == ["b2"]


def test_what_is_shared_is_never_written_in_place(tmp_path, made_chips):
    """A chip that changes after it was taken over leaves the older store as it is."""
    old = pack(tmp_path / "store", made_chips())
    before = contents(tmp_path / "store")
    more = {"train": ["a1", "b2", "c3", "d4", "z9"], "test": ["e5", "f6"]}
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(names=more, fail_at="z9"))
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(names=more, version=1, fail_at="z9"))
    assert contents(tmp_path / "store") == before
    assert ChipStore(tmp_path / "store").fingerprint == old.fingerprint
