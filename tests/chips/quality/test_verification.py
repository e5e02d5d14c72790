"""Verification: right, missing, damaged; quarantine; the same whoever does it, however often."""

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import S1, S2
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.quality.verification import (
    JOURNAL_NAME,
    VerificationOptions,
    known_damage,
    pixel_facts,
    summary_line,
    verify_archive,
)
from biomassters.errors import BadInputError
from biomassters.io.files import RowJournal
from biomassters.io.raster import write_raster
from biomassters.pipelines.data_engineering.nodes import inspect_chips, verify_files
from biomassters.pipelines.data_engineering.options import DataEngineeringOptions
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Threads

A_IMAGE = "0000000a_S1_03.tif"


def verify(root, work, workers=None, quarantine=True):
    options = VerificationOptions(quarantine=quarantine)
    return verify_archive(Archive.open(root), work, options, workers)


def row(table, filename):
    return table[table["filename"] == filename].iloc[0]


def flip(path, place=-500):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    return bytes(content)


def test_an_archive_that_is_right(archive_root, tmp_path):
    table = verify(archive_root, tmp_path / "work")
    assert set(table["status"]) == {"right"}
    assert (table["cksum"] == table["expected_cksum"]).all()
    assert (table["size"] == table["expected_size"]).all()
    assert len(table) == 3 * 15 + 2
    assert summary_line(table) == "47 files checked: 47 right."


def test_a_flipped_byte_is_named_and_moved_aside(archive_root, tmp_path):
    path = archive_root / "train_features" / A_IMAGE
    content = flip(path)
    table = verify(archive_root, tmp_path / "work")
    wrong = row(table, A_IMAGE)
    assert wrong["status"] == "damaged"
    assert wrong["reason"] == f"has cksum {wrong['cksum']} instead of {wrong['expected_cksum']}"
    assert wrong["quarantined"]
    assert not path.exists()
    assert (archive_root / ".quarantine" / A_IMAGE).read_bytes() == content
    assert A_IMAGE in summary_line(table)
    # Again, with the file in quarantine: the same table.
    pd.testing.assert_frame_equal(verify(archive_root, tmp_path / "work"), table)


def test_quarantine_keeps_every_copy(archive_root, tmp_path):
    path = archive_root / "train_features" / A_IMAGE
    right = path.read_bytes()
    for place in (-500, -600):
        path.write_bytes(right)
        flip(path, place)
        verify(archive_root, tmp_path / "work")
    kept = sorted(entry.name for entry in (archive_root / ".quarantine").iterdir())
    assert kept == [A_IMAGE, f"{A_IMAGE}.1"]


def contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


def test_data_engineering_changes_nothing_in_the_archive(archive_root, tmp_path, caplog):
    """A user's files stay where they are; a warning names them, what they cost and the remedy."""
    damaged = sorted((archive_root / "train_features").glob("0000000a_S?_*.tif"))[:4]
    for path in damaged:
        flip(path)
    before = contents(archive_root)
    options = DataEngineeringOptions()
    archive = Archive.open(archive_root)
    table = verify_files(archive, tmp_path / "work", options, DaskOptions())
    chips, _ = inspect_chips(archive, table, options, DaskOptions())
    assert contents(archive_root) == before
    assert not table["quarantined"].any()
    assert not chips.set_index("chip_id").loc["0000000a", "usable"]
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warning.startswith(
        f"{archive_root} holds 4 damaged files ({', '.join(path.name for path in damaged[:3])} ...)"
        "; 1 chip (0000000a) left out: fetch what is damaged again"
    )


def test_truncated_missing_and_empty(archive_root, tmp_path):
    folder = archive_root / "train_features"
    path = folder / A_IMAGE
    path.write_bytes(path.read_bytes()[:1000])
    (folder / "0000000b_S1_00.tif").unlink()
    (folder / "0000000b_S1_01.tif").write_bytes(b"")
    table = verify(archive_root, tmp_path / "work")
    assert row(table, A_IMAGE)["reason"].startswith("has 1,000 bytes instead of")
    assert row(table, "0000000b_S1_00.tif")["status"] == "missing"
    assert row(table, "0000000b_S1_01.tif")["reason"] == "is empty"


def test_right_bytes_that_do_not_decode_stay(archive_root, tmp_path):
    """The metadata vouch for them, so a new copy would be the same."""
    path = archive_root / "train_features" / A_IMAGE
    image = np.full((4, 32, 32), -9.0, np.float32)
    image[0, 0, 0] = np.nan
    write_raster(path, image)
    metadata = archive_root / "features_metadata.csv"
    listed = pd.read_csv(metadata)
    listed.loc[listed["filename"] == A_IMAGE, "cksum"] = cksum(path)
    listed.loc[listed["filename"] == A_IMAGE, "size"] = path.stat().st_size
    listed.to_csv(metadata, index=False)
    wrong = row(verify(archive_root, tmp_path / "work"), A_IMAGE)
    assert (wrong["status"], wrong["reason"]) == ("damaged", "has 1 NaN or infinite value")
    assert not wrong["quarantined"]
    assert path.exists()
    assert wrong["nan_fraction"] == 1 / 4096
    assert wrong["constant_block_fraction"] == 15 / 16


def cksum(path):
    from biomassters.io.checksum import file_cksum

    return file_cksum(path)


def test_metadata_without_checksums(archive_root, tmp_path, chips):
    for chip in chips:
        chip.images["s1"][:, 1::2][chip.images["s1"][:, 1::2] > -9999] -= 6  # as land: VH below VV
    write_archive(archive_root, chips, progress=False)
    metadata = archive_root / "features_metadata.csv"
    pd.read_csv(metadata).drop(columns=["cksum"]).to_csv(metadata, index=False)
    table = verify(archive_root, tmp_path / "work")
    assert set(table["status"]) == {"no checksum", "right"}


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("0000000a_S1_00.tif", np.full((4, 32, 32), 0.05, np.float32), "linear power"),
        ("0000000a_S1_00.tif", np.full((4, 32, 32), 1e30, np.float32), "backscatter in dB"),
        ("0000000a_S2_00.tif", np.full((11, 32, 32), 65535, np.uint16), "65535 everywhere"),
        ("0000000a_agbm.tif", np.full((1, 32, 32), 1e9, np.float32), "more than any forest"),
    ],
)
def test_values_that_cannot_be_are_damage_without_a_checksum(
    archive_root, tmp_path, name, values, reason
):
    for metadata in archive_root.glob("*.csv"):
        columns = pd.read_csv(metadata).drop(columns=["size", "cksum"], errors="ignore")
        columns.to_csv(metadata, index=False)
    write_raster(next(archive_root.rglob(name)), values)
    table = verify(archive_root, tmp_path / "work").set_index("filename")
    assert table.loc[name, "status"] == "damaged"
    assert reason in table.loc[name, "reason"]
    assert not table.loc[name, "quarantined"]


def test_the_chip_table_knows_what_verification_found(archive_root, tmp_path):
    flip(archive_root / "train_features" / A_IMAGE)
    for quarantine in (True, False):
        table = verify(archive_root, tmp_path / "work", quarantine=quarantine)
        chips, _ = inspect_archive(
            Archive.open(archive_root),
            InspectionOptions(on_damaged="leave_out_image"),
            verification=table,
        )
        chip = chips.set_index("chip_id").loc["0000000a"]
        assert chip["damaged_files"] == [A_IMAGE]
        assert A_IMAGE not in chip["missing_files"]
        assert 3 not in chip["s1_months"]
        assert "has cksum" in chip["problem"]
        assert known_damage(table) == {"0000000a": {A_IMAGE: row(table, A_IMAGE)["reason"]}}


def test_threads_do_not_matter(archive_root, tmp_path):
    one = verify(archive_root, tmp_path / "one", Threads(1))
    pd.testing.assert_frame_equal(verify(archive_root, tmp_path / "five", Threads(5)), one)


def test_an_unfinished_run_goes_on(archive_root, tmp_path):
    work = tmp_path / "work"
    table = verify(archive_root, work, Threads(1))
    journal = work / JOURNAL_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    assert lines[-1] == b'{"complete": true}\n'
    # Without the end and with a torn last line; what is known of chip a is believed.
    journal.write_bytes(lines[0].replace(b'"reason": ""', b'"reason": "noted"') + lines[1][:50])
    again = verify(archive_root, work)
    assert set(again.loc[again["reason"] == "noted", "chip_id"]) == {table["chip_id"].iloc[0]}
    # After a complete run, nothing is believed.
    pd.testing.assert_frame_equal(verify(archive_root, work), table)


def test_two_runs_at_once(archive_root, tmp_path):
    with (
        RowJournal(tmp_path / "work" / JOURNAL_NAME, "verifying this"),
        pytest.raises(BadInputError, match=r"Another run is verifying .* wait until it ends"),
    ):
        verify(archive_root, tmp_path / "work")


def test_a_full_disk(archive_root, tmp_path, monkeypatch):
    """The journal can't grow; nothing but a sentence comes of it, and the next run goes on."""
    write = RowJournal._write

    def fill_up(journal, line):
        if len(journal.entries) == 2:
            journal._file.close()
            journal._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
        write(journal, line)

    with monkeypatch.context() as full:
        full.setattr(RowJournal, "_write", fill_up)
        with pytest.raises(BadInputError, match=r"disk is full while verifying .*free some space"):
            verify(archive_root, tmp_path)
    assert (verify(archive_root, tmp_path)["status"] == "right").all()


def test_the_real_files(sample_root, tmp_path):
    table = verify(sample_root, tmp_path / "work", quarantine=False)
    assert set(table["status"]) == {"right"}
    assert row(table, "001b0634_S1_00.tif")["cksum"] == 3250666344


def test_a_byte_of_a_real_file(sample_root, tmp_path):
    root = tmp_path / "archive"
    shutil.copytree(sample_root, root, copy_function=shutil.copyfile)
    flip(root / "train_features" / "000aa810_S2_11.tif")
    table = verify(root, tmp_path / "work")
    assert summary_line(table).startswith("22 files checked: ")
    assert known_damage(table)["000aa810"].keys() == {"000aa810_S2_11.tif"}


RUN = """
import sys
from pathlib import Path
from biomassters.chips.archive.archive import Archive
from biomassters.chips.quality.verification import VerificationOptions, verify_archive
from biomassters.workers.pool import Threads
stand_still_at(int(sys.argv[1]))
root, work = sys.argv[2:]
verify_archive(Archive.open(root), Path(work), VerificationOptions(quarantine=True), Threads(1))
"""


@pytest.mark.slow
def test_ten_kills(tmp_path, make_chip, fork):
    """Killed whenever another chip is done, the next run gives an uninterrupted one's table."""
    archive_root = tmp_path / "archive"
    names = [f"{number:08x}" for number in range(24)]
    write_archive(
        archive_root, (make_chip(name, s1_months=(0, 3)) for name in names), progress=False
    )
    for name in ("00000002_S1_03.tif", "00000013_S2_06.tif"):
        flip(next(archive_root.rglob(name)))
    copy = tmp_path / "copy"
    shutil.copytree(archive_root, copy)
    expected = verify(copy, tmp_path / "copied")
    journal = tmp_path / "work" / JOURNAL_NAME
    for _ in range(10):
        before = entries(journal)
        process = fork(RUN, before + 2, archive_root, tmp_path / "work")
        while entries(journal) == before:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
    assert 10 <= entries(journal) < len(names)
    pd.testing.assert_frame_equal(verify(archive_root, tmp_path / "work"), expected)


def entries(journal):
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def image(height=32, width=48):
    return np.random.default_rng(1).normal(-10, 2, (4, height, width)).astype(np.float32)


def test_shares_by_hand():
    values = image()
    values[0, :16] = -9999  # half of one of four bands
    values[1, 0, :12] = 0
    facts = pixel_facts(values, S1)
    assert facts.nodata_fraction == 1 / 8
    assert facts.zero_fraction == 12 / values.size
    assert (facts.nan_fraction, facts.constant_block_fraction, facts.fault) == (0, 0, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted(bad):
    values = image()
    values[2, 3, 4:7] = bad
    facts = pixel_facts(values, S1)
    assert facts.nan_fraction == 3 / values.size
    assert facts.fault == "has 3 NaN or infinite values"


def test_blocks_of_one_value():
    values = image()
    values[3, 16:32, 16:32] = -7.5
    assert pixel_facts(values, S1).constant_block_fraction == 1 / 24
    values[3, 20, 20] = -7.4
    assert pixel_facts(values, S1).constant_block_fraction == 0


def test_cloud_probability_may_be_constant():
    values = np.random.default_rng(1).integers(1, 999, (11, 16, 16)).astype(np.uint16)
    values[-1] = 255
    assert pixel_facts(values, S2).constant_block_fraction == 0


def test_all_zero_is_a_fault_of_an_image_but_not_of_a_label():
    assert pixel_facts(np.zeros((11, 16, 16), np.uint16), S2).fault == "is 0 everywhere"
    assert pixel_facts(np.zeros((1, 16, 16), np.float32), None).fault is None


def test_a_negative_label():
    label = np.ones((1, 16, 16), np.float32)
    label[0, 0, 0] = -1
    assert pixel_facts(label, None).fault == "has 1 negative pixel"


def test_less_than_a_block():
    assert pixel_facts(np.full((4, 8, 8), 3.0, np.float32), S1).constant_block_fraction == 0
