import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from biomassters.chips.chip import Chip
from biomassters.chips.store import store_files
from biomassters.chips.store.layout import IMAGE_ARRAYS
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.store_files import FolderFiles
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError


def pack(path, source, codec="lz4"):
    return write_store(path, source, codec=codec)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def contents(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def unfinished(path: Path) -> Path:
    """Where a store grows."""
    (folder,) = (entry for entry in path.with_name(f"{path.name}.partial").iterdir())
    return folder


@pytest.fixture
def fresh(tmp_path, made_chips):
    """Files of a store that was packed in one go."""

    def files(codec="lz4", **changes):
        pack(tmp_path / "fresh", made_chips(**changes), codec)
        found = contents(tmp_path / "fresh")
        shutil.rmtree(tmp_path / "fresh")
        return found

    return files


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_round_trip(tmp_path, made_chips, codec):
    source = made_chips()
    store = pack(tmp_path / "store", source, codec)
    assert store.splits == ("train", "test")
    assert source.reads == list(source)
    for name, names in source.splits().items():
        split = store.split(name)
        assert split.chip_ids == tuple(names)
        for index, chip_id in enumerate(names):
            chip, back = source.chip(chip_id), split.read_chip(index)
            assert np.abs(back.images["s1"].astype(float) - chip.images["s1"]).max() <= 0.00501
            assert np.array_equal(back.images["s1"] == -9999, chip.images["s1"] == -9999)
            assert np.array_equal(back.images["s2"], chip.images["s2"])
            assert np.array_equal(back.present, chip.present)
            assert back.georeference == chip.georeference
            if name == "train":
                assert np.array_equal(back.agb_mg_per_ha, chip.agb_mg_per_ha)
            else:
                assert back.agb_mg_per_ha is None


def test_codecs_hold_the_same_data(tmp_path, made_chips):
    stores = [pack(tmp_path / codec, made_chips(), codec) for codec in ("lz4", "zstd", "none")]
    assert len({store.fingerprint for store in stores}) == 1
    changed = pack(tmp_path / "changed", made_chips(version=1))
    assert changed.fingerprint != stores[0].fingerprint


def test_an_unchanged_store_is_left_alone(tmp_path, made_chips, caplog):
    pack(tmp_path / "store", made_chips())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    source = made_chips()
    with caplog.at_level("INFO"):
        pack(tmp_path / "store", source)
    assert source.reads == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert len(caplog.records) == 1
    assert "nothing to pack" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"names": {"test": ["a1", "b2", "c3", "d4"], "train": ["e5", "f6"]}},
    ],
)
def test_a_change_packs_anew(tmp_path, made_chips, change):
    pack(tmp_path / "store", made_chips())
    source = made_chips(**change)
    store = pack(tmp_path / "store", source)
    assert source.reads == list(source)
    assert store.fingerprint == pack(tmp_path / "fresh", source).fingerprint
    assert names(tmp_path) == ["fresh", "store"]


def test_the_old_store_stays_until_the_new_one_is_complete(tmp_path, made_chips):
    old = pack(tmp_path / "store", made_chips())
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(version=1, fail_at="c3"))
    assert ChipStore(tmp_path / "store").fingerprint == old.fingerprint
    assert old.split("train").read_chip(2).chip_id == "c3"
    new = pack(tmp_path / "store", made_chips(version=1))
    assert new.fingerprint != old.fingerprint


@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_an_interrupted_write_goes_on(tmp_path, made_chips, codec):
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="d4"), codec)
    assert names(tmp_path) == ["store.partial"]
    source = made_chips()
    pack(tmp_path / "store", source, codec)
    assert source.reads == ["d4", "e5", "f6"]
    pack(tmp_path / "fresh", made_chips(), codec)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_chip_that_changed_during_the_interruption_is_packed_again(tmp_path, made_chips):
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="d4"))
    source = made_chips(version=1)
    pack(tmp_path / "store", source)
    assert source.reads == list(source)
    pack(tmp_path / "fresh", made_chips(version=1))
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("array", ["s1", "s2", "agb"])
def test_a_file_lost_in_a_power_cut_is_packed_again(tmp_path, made_chips, array):
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="d4"))
    next((unfinished(tmp_path / "store") / "train" / array).glob("c.1.*")).unlink()
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads == ["b2", "d4", "e5", "f6"]


@pytest.mark.parametrize("kept", [0, 1, 30, None])
def test_a_torn_or_damaged_record_is_packed_again(tmp_path, made_chips, fresh, kept):
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="d4"))
    record = unfinished(tmp_path / "store") / ".records" / "train" / "1.json"
    content = record.read_bytes()
    record.write_bytes(content.replace(b"b2", b"b3") if kept is None else content[:kept])
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads == ["b2", "d4", "e5", "f6"]
    assert contents(tmp_path / "store") == fresh()


def test_only_the_chip_that_changed_is_packed_again(tmp_path, made_chips, fresh):
    """In a finished store, and in an unfinished one."""

    class Changed(made_chips):
        def signature(self, chip_id):
            return "new" if chip_id == "b2" else super().signature(chip_id)

    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="e5"))
    source = Changed()
    pack(tmp_path / "store", source)
    assert source.reads == ["b2", "e5", "f6"]
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads == ["b2"]
    assert contents(tmp_path / "store") == fresh()


def test_an_unfinished_store_of_an_older_release_is_packed_anew(
    tmp_path, made_chips, fresh, caplog
):
    """It grew in the folder itself, with a journal."""
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="d4"))
    grown, around = unfinished(tmp_path / "store"), tmp_path / "store.partial"
    shutil.rmtree(grown / ".records")
    for entry in grown.iterdir():
        entry.rename(around / entry.name)
    grown.rmdir()
    (around / "journal.jsonl").write_text("00000000 {}")
    source = made_chips()
    with caplog.at_level("INFO"):
        pack(tmp_path / "store", source)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'store'}: what another unfinished store had left is deleted."
    ]
    assert source.reads == list(source)
    assert names(tmp_path) == ["store"]
    assert contents(tmp_path / "store") == fresh()


STANDING_SOURCE = """
import sys, time
import numpy as np
from biomassters.chips.chip import Chip
from biomassters.chips.store.writer import write_store

class StandingChips:
    def __init__(self, stop=16):
        self.stop = stop
        self.reads = 0

    def splits(self):
        return {"train": [f"{i:04d}" for i in range(16)]}

    def signature(self, chip_id):
        return chip_id

    def read_chip(self, chip_id):
        self.reads += 1
        value = int(chip_id)
        while value >= self.stop:  # to be killed
            time.sleep(1)
        s1 = np.full((12, 4, 16, 16), -value, np.float32)
        s2 = np.full((12, 11, 16, 16), value, np.uint16)
        agb = np.full((16, 16), value, np.float32)
        return Chip(chip_id, "train", {"s1": s1, "s2": s2}, np.ones((12, 2), bool), agb)

if __name__ == "__main__":
    write_store(sys.argv[1], StandingChips(12))
"""


def records(path):
    return list(path.with_name(f"{path.name}.partial").glob("*/.records/*/*.json"))


def test_a_killed_write_goes_on(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(STANDING_SOURCE)
    process = subprocess.Popen([sys.executable, script, tmp_path / "store"])
    while len(records(tmp_path / "store")) < 2:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(records(tmp_path / "store"))
    script_names: dict = {"__name__": "standing"}
    exec(compile(STANDING_SOURCE, str(script), "exec"), script_names)
    source = script_names["StandingChips"]()
    pack(tmp_path / "store", source)
    assert source.reads == 16 - done < 16
    pack(tmp_path / "fresh", script_names["StandingChips"]())
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")
    assert not (tmp_path / "store.partial").exists()


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("step", ["metadata", "claimed", "published", "deleted"])
def test_killed_while_it_is_published(tmp_path, made_chips, fresh, monkeypatch, step, older):
    """All chips are done; the next run reads none again."""
    if older:
        pack(tmp_path / "store", made_chips(version=1))
    publish = store_files.publish_folder

    def stop(*arguments):
        if step == "published":  # and the older store was not deleted
            monkeypatch.setattr("biomassters.io.files.shutil.rmtree", lambda *a, **k: None)
        if step in ("published", "deleted"):
            publish(*arguments)
        monkeypatch.undo()
        raise InterruptedError

    monkeypatch.setattr(store_files, "sync_all" if step == "metadata" else "publish_folder", stop)
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips())
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads == []
    assert names(tmp_path) == ["store"]
    assert contents(tmp_path / "store") == fresh()


def test_a_kill_leaves_no_record_of_older_files(tmp_path, made_chips, fresh, monkeypatch):
    """The older store lies where the new one grew; its chips are not taken for the new one's."""
    pack(tmp_path / "store", made_chips(version=1))
    publish = store_files.publish_folder

    def stop(*arguments):
        with monkeypatch.context() as patched:
            patched.setattr("biomassters.io.files.shutil.rmtree", lambda *a, **k: None)
            publish(*arguments)
        monkeypatch.undo()
        raise InterruptedError

    monkeypatch.setattr(store_files, "publish_folder", stop)
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips())

    class Changed(made_chips):
        def signature(self, chip_id):
            return "new" if chip_id == "b2" else super().signature(chip_id)

    source = Changed()
    pack(tmp_path / "store", source)
    assert source.reads == ["b2"]
    found, expected = contents(tmp_path / "store"), fresh()
    assert found.pop("manifest.json") != expected.pop("manifest.json")  # a signature
    assert found == expected


@pytest.mark.parametrize("chip_id", ["a1", "d4", "f6"])
def test_two_runs_at_once_leave_the_same_bytes_as_one(tmp_path, made_chips, fresh, chip_id):
    """Another run packs all chips and publishes them while this one is at its work."""

    class Nosy(made_chips):
        def read_chip(self, name):
            if name == chip_id:
                pack(tmp_path / "store", made_chips())
            return super().read_chip(name)

    pack(tmp_path / "store", Nosy())
    assert names(tmp_path) == ["store"]
    assert contents(tmp_path / "store") == fresh()


@pytest.mark.parametrize("older", [True, False])
def test_two_runs_publish_at_once(tmp_path, made_chips, fresh, monkeypatch, older):
    """Another run publishes between this one's last look at the files and its renaming."""
    if older:
        pack(tmp_path / "store", made_chips(version=1))

    def overtaken(_):
        monkeypatch.undo()
        pack(tmp_path / "store", made_chips())

    monkeypatch.setattr(store_files, "sync_all", overtaken)
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads == list(source)
    assert names(tmp_path) == ["store"]
    assert contents(tmp_path / "store") == fresh()


def test_two_processes_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(STANDING_SOURCE.replace("StandingChips(12)", "StandingChips()"))
    for name in ("store", "store", "fresh"):
        processes = [
            subprocess.Popen([sys.executable, script, tmp_path / name])
            for _ in range(2 if name == "store" else 1)
        ]
        assert [process.wait() for process in processes] == [0] * len(processes)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")
    assert names(tmp_path) == ["fresh", "script.py", "store"]


def test_two_runs_of_other_chips_at_once(tmp_path, made_chips, fresh):
    """Each packs its own; the last one's store stays, and is not a mixture."""

    class Nosy(made_chips):
        def read_chip(self, name):
            if name == "d4" and "d4" not in self.reads:
                pack(tmp_path / "store", made_chips(names={"train": ["d4", "a1"]}))
            return super().read_chip(name)

    pack(tmp_path / "store", Nosy())
    assert contents(tmp_path / "store") == fresh()


def test_a_run_that_is_disturbed_for_ever_ends_in_a_sentence(tmp_path, made_chips):
    class Nosy(made_chips):
        def read_chip(self, name):
            pack(tmp_path / "store", made_chips(names={"train": ["c3", "a1"]}))
            shutil.rmtree(tmp_path / "store")
            return super().read_chip(name)

    with pytest.raises(BadInputError, match=r"Another run is packing other chips, .*store: wait"):
        pack(tmp_path / "store", Nosy())


def test_other_peoples_files_are_left_alone(tmp_path, made_chips):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.pdf").write_bytes(b"years of work")
    with pytest.raises(BadInputError, match=r"is no chip store \(thesis.pdf\): choose another fol"):
        pack(tmp_path / "thesis", made_chips())
    assert contents(tmp_path) == {"thesis/thesis.pdf": b"years of work"}


def test_chips_of_two_sizes(tmp_path, made_chips):
    class Uneven(made_chips):
        def chip(self, chip_id):
            return made_chips(size=(16, 16) if chip_id == "c3" else self.size).chip(chip_id)

    with pytest.raises(BadInputError, match=r"Chip c3 has 16 x 16 pixels, .* before have 24 x 40"):
        pack(tmp_path / "store", Uneven())
    assert not (tmp_path / "store").exists()


def test_bad_sources(tmp_path, made_chips):
    with pytest.raises(BadInputError, match="there is no 'gzip'; choose one of lz4, zstd, none"):
        pack(tmp_path / "store", made_chips(), "gzip")
    with pytest.raises(BadInputError, match="Chip a1 is listed twice"):
        pack(tmp_path / "store", made_chips({"train": ["a1"], "test": ["a1"]}))
    with pytest.raises(BadInputError, match="no usable chip"):
        pack(tmp_path / "store", made_chips({"train": [], "test": []}))
    assert names(tmp_path) == []


def test_a_full_disk_is_noticed_before_packing(tmp_path, made_chips):
    class Huge(made_chips):
        def read_chip(self, chip_id):
            edge = 1 << 19  # 180 TB of pixels, none of them in memory
            s1 = np.broadcast_to(np.float32(0), (12, 4, edge, edge))
            s2 = np.broadcast_to(np.uint16(0), (12, 11, edge, edge))
            return Chip(chip_id, "train", {"s1": s1, "s2": s2}, np.ones((12, 2), bool))

    with pytest.raises(BadInputError, match=r"Packing 6 chips with codec lz4 needs .* free"):
        pack(tmp_path / "store", Huge())
    assert not (tmp_path / "store").exists()


def test_a_disk_that_fills_up(tmp_path, made_chips):
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="b2"))
    files = FolderFiles(unfinished(tmp_path / "store"))
    files.temporary_path(IMAGE_ARRAYS[1].key("train", 1)).symlink_to("/dev/full")
    with pytest.raises(BadInputError, match=r"disk is full while packing .* free some space"):
        pack(tmp_path / "store", made_chips())
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads[0] == "b2"
    pack(tmp_path / "fresh", made_chips())
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_split_without_chips_is_left_out(tmp_path, made_chips):
    store = pack(tmp_path / "store", made_chips({"train": ["a1"], "test": []}))
    assert store.splits == ("train",)


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
