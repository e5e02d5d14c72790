"""A store written to object storage: the same store, resumed, replaced, protected."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from biomassters.chips.store import writer_lease
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.io import storage

URL = "memory://bucket/chips.zarr"
MORE = {"train": ["a0", "a1", "b2", "c3", "d4", "e0"], "test": ["e5"]}

pytestmark = pytest.mark.usefixtures("memory")


@pytest.fixture(autouse=True)
def quick_lease(monkeypatch):
    monkeypatch.setattr(writer_lease, "RENEW_S", 0.1)


def pack(place, source, codec="lz4"):
    return write_store(place, source, codec=codec, progress=False)


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
            assert np.array_equal(one.read_chip(index).s1_db, other.read_chip(index).s1_db)
        s1, s2 = np.empty((4, 5, 7), np.int16), np.empty((11, 5, 7), np.uint16)
        again = s1.copy(), s2.copy()
        one.read_month_into(1, 0, s1, s2, 3, 2)
        other.read_month_into(1, 0, *again, 3, 2)
        assert np.array_equal(s1, again[0])


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
    memory.rm_file("/bucket/chips.zarr/train/s1/c.1.0.0.0.0")
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


def test_two_runs_at_once(made_chips, monkeypatch):
    monkeypatch.setattr(writer_lease, "RENEW_S", 1)  # watched for 4 s: a busy machine renews it
    lease = writer_lease.WriterLease(f"{URL}.partial/lease.json", URL)
    try:
        with pytest.raises(BadInputError, match=r"Another run is writing .*chips.zarr: wait"):
            pack(URL, made_chips())
    finally:
        lease.close()
    pack(URL, made_chips())


@pytest.mark.parametrize("machine", ["this", "another"])
def test_the_lease_of_a_run_that_was_killed(memory, made_chips, machine):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lease = writer_lease.WriterLease("memory://bucket/any", URL)
    own = json.loads(memory.cat_file("/bucket/any"))
    lease.close()
    if machine == "another":
        own["machine"] = "elsewhere"
    left = {**own, "owner": "other", "process": ended.pid}
    memory.pipe_file("/bucket/chips.zarr.partial/lease.json", json.dumps(left).encode())
    pack(URL, made_chips())
    assert not memory.exists("/bucket/chips.zarr.partial")


def test_a_lease_that_another_run_took(memory, made_chips):
    """The overwritten one sees it, ends at its next chip, and leaves the other's lease alone."""

    class Overtaken(made_chips):
        def read_chip(self, chip_id):
            if chip_id == "c3":
                while any(thread.name == "writer lease" for thread in threading.enumerate()):
                    memory.pipe_file(lease, json.dumps({"owner": "other"}).encode())
                    time.sleep(0.05)
            return super().read_chip(chip_id)

    lease = "/bucket/chips.zarr.partial/lease.json"
    with pytest.raises(BadInputError, match="Another run is writing"):
        pack(URL, Overtaken())
    assert json.loads(memory.cat_file(lease)) == {"owner": "other"}


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
