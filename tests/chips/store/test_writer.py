import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from biomassters.chips.chip import Chip
from biomassters.chips.store.place import temporary_path
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError


def pack(path, source, codec="lz4"):
    return write_store(path, source, codec=codec, progress=False)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def contents(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


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
            assert np.abs(back.s1_db.astype(float) - chip.s1_db).max() <= 0.00501
            assert np.array_equal(back.s1_db == -9999, chip.s1_db == -9999)
            assert np.array_equal(back.s2, chip.s2)
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
    next((tmp_path / "store.partial" / "train" / array).glob("c.1.*")).unlink()
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads == ["b2", "d4", "e5", "f6"]


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
        return Chip(chip_id, "train", s1, s2, np.ones((12, 2), bool), agb)

if __name__ == "__main__":
    write_store(sys.argv[1], StandingChips(12), progress=False)
"""


def test_a_killed_write_goes_on(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(STANDING_SOURCE)
    journal = tmp_path / "store.partial" / "journal.jsonl"
    process = subprocess.Popen([sys.executable, script, tmp_path / "store"])
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = journal.read_bytes().count(b"\n") - 1
    script_names: dict = {"__name__": "standing"}
    exec(compile(STANDING_SOURCE, str(script), "exec"), script_names)
    source = script_names["StandingChips"]()
    pack(tmp_path / "store", source)
    assert source.reads == 16 - done < 16
    pack(tmp_path / "fresh", script_names["StandingChips"]())
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("journal_survives", [True, False])
def test_killed_between_the_metadata_and_the_name(tmp_path, made_chips, journal_survives):
    """All chips are done, Zarr's metadata lie there, the name was not yet taken."""
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="f6"))
    journal = (tmp_path / "store.partial" / "journal.jsonl").read_bytes()
    pack(tmp_path / "store", made_chips())
    (tmp_path / "store").rename(tmp_path / "store.partial")
    if journal_survives:
        (tmp_path / "store.partial" / "journal.jsonl").write_bytes(journal)
    source = made_chips()
    pack(tmp_path / "store", source)
    assert source.reads == (["f6"] if journal_survives else list(source))
    pack(tmp_path / "fresh", made_chips())
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_two_runs_at_once(tmp_path, made_chips):
    class Nosy(made_chips):
        def read_chip(self, chip_id):
            with pytest.raises(BadInputError, match=r"Another run is writing .*store\.partial"):
                pack(tmp_path / "store", made_chips())
            return super().read_chip(chip_id)

    pack(tmp_path / "store", Nosy())


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
            return Chip(chip_id, "train", s1, s2, np.ones((12, 2), bool))

    with pytest.raises(BadInputError, match=r"Packing 6 chips with codec lz4 needs .* free"):
        pack(tmp_path / "store", Huge())
    assert not (tmp_path / "store").exists()


def test_a_disk_that_fills_up(tmp_path, made_chips):
    with pytest.raises(InterruptedError):
        pack(tmp_path / "store", made_chips(fail_at="b2"))
    shard = tmp_path / "store.partial" / "train" / "s2" / "c.1.0.0.0.0"
    temporary_path(shard).symlink_to("/dev/full")
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
