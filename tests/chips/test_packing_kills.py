"""Packing killed ten times."""

import time

import pytest

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.store.writer import write_store

CHIPS = 42
IN_FLIGHT = 4  # being encoded, when another is read
RUN = """
import sys, time
import pandas as pd
from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.store.writer import write_store
stop, root, table, store = sys.argv[1:]
class Standing(UsableChips):
    def read_chip(self, chip_id):
        while int(chip_id, 16) >= int(stop):
            time.sleep(1)
        return super().read_chip(chip_id)
write_store(store, Standing(Archive.open(root), pd.read_pickle(table)))
"""


def done(partial):
    """Chips that have a record."""
    return len(list(partial.glob("*/.records/train/*.json")))


@pytest.mark.slow
def test_ten_kills(tmp_path, made_chips, fork):
    """The next run gives the files of an uninterrupted one, byte for byte.

    Every run is killed when another chip is done, in the middle of the next ones; reading stands
    still soon after, so that none comes to its end before.
    """
    made = made_chips({"train": [f"{number:08x}" for number in range(CHIPS)]}, size=(8, 12))
    root = tmp_path / "archive"
    write_archive(root, (made.chip(name) for name in made), progress=False)
    archive = Archive.open(root)
    table, _ = inspect_archive(archive, InspectionOptions())
    table.to_pickle(tmp_path / "table.pickle")
    source = UsableChips(archive, table)
    write_store(tmp_path / "fresh", source)
    partial = tmp_path / "store.partial"
    for _ in range(10):
        before = done(partial)
        stop = before + IN_FLIGHT + 1
        process = fork(RUN, stop, root, tmp_path / "table.pickle", tmp_path / "store")
        while done(partial) == before:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
    assert 10 <= done(partial) < CHIPS
    write_store(tmp_path / "store", source)
    assert _contents(tmp_path / "store") == _contents(tmp_path / "fresh")
    assert not partial.exists()


def _contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
