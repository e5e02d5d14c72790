"""Packing killed ten times."""

import time

import pytest

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.store.writer import write_store

CHIPS = 42
IN_FLIGHT = 4  # being encoded, when another is read


def done(partial):
    """Chips that have a record."""
    return len(list(partial.glob("*/.records/train/*.json")))


@pytest.mark.slow
def test_ten_kills(tmp_path, made_chips, victims):
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
    herd = victims(
        "import pandas as pd\n"
        "from biomassters.chips.archive.archive import Archive\n"
        "from biomassters.chips.archive.archive import UsableChips\n"
        "from biomassters.chips.store.writer import write_store\n"
        "class Standing(UsableChips):\n"
        "    def read_chip(self, chip_id):\n"
        "        while int(chip_id, 16) >= self.stop:\n"
        "            time.sleep(1)\n"
        "        return super().read_chip(chip_id)\n"
        f"table = pd.read_pickle({str(tmp_path / 'table.pickle')!r})\n"
        f"source = Standing(Archive.open({str(root)!r}), table)",
        f"source.stop = argument; write_store({str(tmp_path / 'store')!r}, source)",
    )
    partial = tmp_path / "store.partial"
    for _ in range(10):
        before = done(partial)
        pid = herd.start(before + IN_FLIGHT + 1)
        while done(partial) == before:
            assert herd.alive(pid)
            time.sleep(0.001)
        herd.kill(pid)
    assert 10 <= done(partial) < CHIPS
    write_store(tmp_path / "store", source)
    assert _contents(tmp_path / "store") == _contents(tmp_path / "fresh")
    assert not partial.exists()


def _contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
