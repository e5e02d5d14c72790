"""A process that packs into a bucket is killed; the next one goes on."""

import time

import pytest

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.io import storage

CHIPS = 24
# Reading stands still before the last chips: however fast or slow the machine is, the process is
# killed in the middle.
RUN = """
import sys
import time
import pandas as pd
from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.archive import UsableChips
from biomassters.chips.store.writer import write_store
class Slow(UsableChips):
    def read_chip(self, chip_id):
        if int(chip_id, 16) >= 16:
            time.sleep(300)
        return super().read_chip(chip_id)
root, table, url = sys.argv[1:]
write_store(url, Slow(Archive.open(root), pd.read_pickle(table)))
"""


@pytest.mark.slow
def test_a_killed_process(fork, s3_access, tmp_path, made_chips, caplog):
    made = made_chips({"train": [f"{number:08x}" for number in range(CHIPS)]})
    root, url = tmp_path / "archive", "s3://killed/chips.zarr"
    write_archive(root, (made.chip(name) for name in made), progress=False)
    s3_access.client().create_bucket(Bucket="killed")
    table, _ = inspect_archive(Archive.open(root), InspectionOptions())
    table.to_pickle(tmp_path / "table.pickle")
    process = fork(RUN, root, tmp_path / "table.pickle", url)
    while not any("/.records/" in name for name in storage.listing("s3://killed")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    with pytest.raises(BadInputError, match="is unfinished"):
        ChipStore(url)
    source = UsableChips(Archive.open(root), table)
    with caplog.at_level("INFO"):
        store = write_store(url, source)
    (left,) = (record.args[1] for record in caplog.records if "left to pack" in record.msg)
    assert 0 < left < CHIPS
    fresh = write_store(tmp_path / "fresh", source)
    assert store.fingerprint == fresh.fingerprint
    files = (path for path in fresh.path.rglob("*") if path.is_file())
    assert {name: storage.read(f"{url}/{name}") for name in storage.listing(url)} == {
        str(path.relative_to(fresh.path)): path.read_bytes() for path in files
    }
    assert not any(".partial" in name for name in storage.listing("s3://killed"))
