"""Packing killed ten times."""

import time

import pytest

from biomassters.chips.archive import Archive, write_archive
from biomassters.chips.archive_source import UsableChips
from biomassters.chips.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.store_writer import write_store


@pytest.mark.slow
def test_ten_kills(tmp_path, made_chips, victims):
    """The next run gives the files of an uninterrupted one, byte for byte."""
    made = made_chips({"train": [f"{number:08x}" for number in range(24)]})
    root = tmp_path / "archive"
    write_archive(root, (made.chip(name) for name in made), progress=False)
    archive = Archive.open(root)
    table, _ = inspect_archive(archive, InspectionOptions(), progress=False)
    table.to_pickle(tmp_path / "table.pickle")
    source = UsableChips(archive, table)
    started = time.perf_counter()
    write_store(tmp_path / "fresh", source, progress=False)
    whole_s = time.perf_counter() - started
    herd = victims(
        "import pandas as pd\n"
        "from biomassters.chips.archive import Archive\n"
        "from biomassters.chips.archive_source import UsableChips\n"
        "from biomassters.chips.store_writer import write_store\n"
        f"table = pd.read_pickle({str(tmp_path / 'table.pickle')!r})\n"
        f"source = UsableChips(Archive.open({str(root)!r}), table)",
        f"write_store({str(tmp_path / 'store')!r}, source, progress=False)",
    )
    finished = 0
    for kill in range(10):
        pid = herd.start()
        time.sleep(whole_s * (kill + 1) / 40)
        finished += not herd.alive(pid)
        herd.kill(pid)
    assert finished < 10
    write_store(tmp_path / "store", source, progress=False)
    assert _contents(tmp_path / "store") == _contents(tmp_path / "fresh")
    assert not (tmp_path / "store.partial").exists()


def _contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
