"""A store written to object storage: the same store, resumed, replaced, protected."""

import numpy as np
import pytest

from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.io import storage

URL = "memory://bucket/chips.zarr"
MORE = {"train": ["a0", "a1", "b2", "c3", "d4", "e0"], "test": ["e5"]}

pytestmark = pytest.mark.usefixtures("memory")


def pack(place, source, codec="lz4"):
    return write_store(place, source, codec=codec)


def in_folder(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def in_bucket(memory):
    return {name: memory.cat_file(name) for name in memory.find("/bucket")}


def same_as_folder(memory, root):
    head = "/bucket/chips.zarr/"
    assert {head + name: data for name, data in in_folder(root).items()} == in_bucket(memory)


@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_the_same_files_as_in_a_folder(memory, tmp_path, made_chips, codec):
    store = pack(URL, made_chips(), codec)
    local = pack(tmp_path / "store", made_chips(), codec)
    same_as_folder(memory, tmp_path / "store")
    assert store.fingerprint == local.fingerprint
    for split in ("train", "test"):
        one, other = store.split(split), local.split(split)
        for index in range(len(one)):
            years = (split.read_chip(index).images["s1"] for split in (one, other))
            assert np.array_equal(*years)
        window = {"s1": np.empty((4, 5, 7), np.int16), "s2": np.empty((11, 5, 7), np.uint16)}
        again = {name: image.copy() for name, image in window.items()}
        one.read_month_into(1, 0, window, 3, 2)
        other.read_month_into(1, 0, again, 3, 2)
        assert np.array_equal(window["s1"], again["s1"])


def test_an_unchanged_store_is_left_alone(made_chips):
    pack(URL, made_chips())
    source = made_chips()
    pack(URL, source)
    assert source.reads == []


def test_an_interrupted_write_goes_on(memory, tmp_path, made_chips):
    with pytest.raises(InterruptedError):
        pack(URL, made_chips(fail_at="d4"))
    with pytest.raises(BadInputError, match=r"chips.zarr is unfinished: run .* again"):
        ChipStore(URL)
    source = made_chips()
    pack(URL, source)
    assert source.reads == ["d4", "e5", "f6"]
    pack(tmp_path / "store", made_chips())
    same_as_folder(memory, tmp_path / "store")


def test_another_plan_clears_what_was_begun(memory, tmp_path, made_chips):
    with pytest.raises(InterruptedError):
        pack(URL, made_chips(fail_at="d4"))
    pack(URL, made_chips(names={"train": ["b2"]}))
    pack(tmp_path / "store", made_chips(names={"train": ["b2"]}))
    same_as_folder(memory, tmp_path / "store")


def test_an_object_that_vanished_is_packed_again(memory, made_chips):
    with pytest.raises(InterruptedError):
        pack(URL, made_chips(fail_at="d4"))
    (shard,) = (name for name in in_bucket(memory) if name.endswith("/train/s1/c.1.0.0.0.0"))
    memory.rm_file(shard)
    source = made_chips()
    pack(URL, source)
    assert source.reads == ["b2", "d4", "e5", "f6"]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_store_is_replaced_from_itself(memory, tmp_path, made_chips, codec):
    """Only new chips are read; the older store can be read until the new one is complete."""
    old = pack(URL, made_chips())
    with pytest.raises(InterruptedError):
        pack(URL, made_chips(names=MORE, fail_at="e0"), codec)
    assert ChipStore(URL).fingerprint == old.fingerprint
    source = made_chips(names=MORE)
    pack(URL, source, codec)
    assert source.reads == ["e0"]
    pack(tmp_path / "store", made_chips(names=MORE), codec)
    same_as_folder(memory, tmp_path / "store")
    with pytest.raises(BadInputError, match="was replaced meanwhile"):
        old.split("train").read_chip(0)


def test_interrupted_while_it_is_published(memory, tmp_path, made_chips, monkeypatch):
    pack(URL, made_chips())
    copy = storage.copy

    def fail_at_the_end(source, target):
        if target == f"{URL}/train/agb/c.5.0.0":
            raise InterruptedError
        copy(source, target)

    monkeypatch.setattr(storage, "copy", fail_at_the_end)
    with pytest.raises(InterruptedError):
        pack(URL, made_chips(names=MORE))
    monkeypatch.undo()
    with pytest.raises(BadInputError, match="is unfinished"):
        ChipStore(URL)
    source = made_chips(names=MORE)
    pack(URL, source)
    assert source.reads == []
    pack(tmp_path / "store", made_chips(names=MORE))
    same_as_folder(memory, tmp_path / "store")


@pytest.mark.parametrize("chip_id", ["a1", "d4", "f6"])
def test_two_runs_at_once_leave_the_same_objects_as_one(memory, tmp_path, made_chips, chip_id):
    class Nosy(made_chips):
        def read_chip(self, name):
            if name == chip_id:
                pack(URL, made_chips())
            return super().read_chip(name)

    pack(URL, Nosy())
    pack(tmp_path / "store", made_chips())
    same_as_folder(memory, tmp_path / "store")


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("at", ["train/s1/c.0.0.0.0.0", "manifest.json"])
def test_two_runs_publish_at_once(memory, tmp_path, made_chips, monkeypatch, older, at):
    if older:
        pack(URL, made_chips(version=1))
    copy = storage.copy

    def overtaken(source, target):
        if target == f"{URL}/{at}":
            monkeypatch.undo()
            pack(URL, made_chips())
        copy(source, target)

    monkeypatch.setattr(storage, "side_by_side", lambda work, items: [work(x) for x in items])
    monkeypatch.setattr(storage, "copy", overtaken)
    source = made_chips()
    pack(URL, source)
    assert source.reads == list(source)
    pack(tmp_path / "store", made_chips())
    same_as_folder(memory, tmp_path / "store")


def test_an_unfinished_store_of_an_older_release_is_packed_anew(memory, tmp_path, made_chips):
    """It grew in its place, with its plan, journal and lease beside it."""
    memory.pipe_file("/bucket/chips.zarr/train/s1/c.7.0.0.0.0", b"a shard")
    for name in ("plan.json", "lease.json", "journal/000000.jsonl"):
        memory.pipe_file(f"/bucket/chips.zarr.partial/{name}", b"{}")
    with pytest.raises(BadInputError, match=r"chips.zarr is unfinished: run .* again"):
        ChipStore(URL)
    source = made_chips()
    pack(URL, source)
    assert source.reads == list(source)
    pack(tmp_path / "store", made_chips())
    same_as_folder(memory, tmp_path / "store")


def test_other_peoples_objects_are_left_alone(memory, made_chips):
    memory.pipe_file("/bucket/chips.zarr/thesis.pdf", b"years of work")
    with pytest.raises(BadInputError, match=r"is no chip store \(thesis.pdf\): choose another"):
        pack(URL, made_chips())
    with pytest.raises(BadInputError, match="is a whole bucket: give the store a name in it"):
        pack("memory://bucket", made_chips())
    assert list(in_bucket(memory)) == ["/bucket/chips.zarr/thesis.pdf"]


def test_a_damaged_shard_is_named(memory, made_chips):
    store = pack(URL, made_chips())
    name = "/bucket/chips.zarr/train/s1/c.0.0.0.0.0"
    memory.pipe_file(name, memory.cat_file(name)[:-9])
    with pytest.raises(BadInputError, match=r"c\.0\.0\.0\.0\.0 is damaged \(its index"):
        store.split("train").read_chip(0)
    memory.rm_file(name)
    with pytest.raises(BadInputError, match=r"c\.0\.0\.0\.0\.0 is missing"):
        ChipStore(URL).split("train").read_chip(0)
