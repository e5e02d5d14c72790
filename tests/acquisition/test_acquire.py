"""Acquisition from real servers on loopback: right, resumed, repaired, refused."""

import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from biomassters.acquisition.acquire import acquire, require_complete, summarise
from biomassters.errors import BadInputError


def counts(table):
    return table["status"].value_counts().to_dict()


def bring(root, options):
    return acquire(root, options)


def test_everything_from_s3_and_nothing_twice(s3, target, published, options, files_of):
    table = bring(target, options(endpoint=s3))
    assert counts(table) == {"fetched": 88}
    assert files_of(target) == files_of(published)
    assert counts(bring(target, options(endpoint=s3))) == {"complete": 88}
    require_complete(table)


def test_failures_and_truncations_end_well(serve, target, published, options, files_of):
    url = serve(published.parent, "--failures", "0.2", "--truncations", "0.2")
    assert counts(bring(target, options(endpoint=url))) == {"fetched": 88}
    assert files_of(target) == files_of(published)


def test_only_what_is_missing_or_wrong_is_fetched(serve, target, published, options, files_of):
    bring(target, options(source=str(published)))
    wrong = target / "train_features" / "00000000_S1_03.tif"
    content = bytearray(wrong.read_bytes())
    content[500] ^= 1
    wrong.write_bytes(content)
    (target / "train_agbm" / "00000001_agbm.tif").unlink()
    table = bring(target, options(source=serve(published.parent) + f"/{published.name}"))
    assert counts(table) == {"complete": 86, "repaired": 1, "fetched": 1}
    assert files_of(target) == files_of(published)
    assert (target / ".quarantine" / wrong.name).read_bytes() == content


@pytest.mark.parametrize(
    ("subset", "files"),
    [
        ({"split": "test"}, 28),
        ({"sensors": ["label"]}, 4),
        ({"sensors": ["s1"], "months": [0, 11]}, 12),
        ({"chips": ["00000002"]}, 15),
        ({"first": 2, "sensors": ["s2"]}, 4),
    ],
)
def test_a_subset(target, published, options, files_of, subset, files):
    table = bring(target, options(source=str(published), subset=subset))
    assert len(table) == files == len(files_of(target))


def test_a_mirror_brings_its_metadata(tmp_path, serve, published, options, files_of):
    url = serve(published.parent) + f"/{published.name}"
    assert counts(bring(tmp_path / "new", options(source=url))) == {"fetched": 88}
    assert files_of(tmp_path / "new") == files_of(published)


def test_what_the_source_lacks_or_has_wrong_is_named(target, published, options, tmp_path):
    mirror = tmp_path / "mirror"
    bring_all(published, mirror)
    (mirror / "train_features" / "00000001_S1_07.tif").unlink()
    (mirror / "train_features" / "00000002_S1_07.tif").write_bytes(b"short")
    table = bring(target, options(source=str(mirror), retries=1))
    assert counts(table) == {"fetched": 86, "missing": 1, "failed": 1}
    text = summarise(table)
    assert "00000001_S1_07.tif: not in the mirror" in text
    assert "00000002_S1_07.tif: the copy has 5 bytes instead of" in text
    with pytest.raises(BadInputError, match=r"2 of 88 files are not right, the first is"):
        require_complete(table)


def bring_all(published, mirror):
    import shutil

    shutil.copytree(published, mirror)


def test_refusal_by_the_bucket(serve, target, published, options):
    with pytest.raises(BadInputError, match=r"none of the files .* denied \(403\); check"):
        bring(target, options(endpoint=serve(published.parent, "--denied")))


def test_a_bucket_that_does_not_exist(serve, target, tmp_path, options):
    with pytest.raises(BadInputError, match=r"doesn't exist \(404\); check acquisition.source"):
        bring(target, options(endpoint=serve(tmp_path)))


def test_no_network(target, options):
    with pytest.raises(
        BadInputError,
        match=r"none of .*127.0.0.1:9 can't be reached, .*check .* the network",
    ):
        bring(target, options(endpoint="http://127.0.0.1:9"))


def test_a_server_that_goes_silent(serve, target, published, options):
    """The run ends instead of waiting for every file in turn."""
    url = serve(published.parent, "--silent-after", "20")
    given = options(endpoint=url, retries=0, parallel=1, timeout_s=1)
    # A machine that stands still for a second fails from the first file on.
    with pytest.raises(BadInputError, match=r"files in a row could not be|gives none of the files"):
        bring(target, given)


def test_a_source_that_goes_wrong(target, published, options, tmp_path):
    """Every file fails from some moment on: the run ends instead of trying them all."""
    mirror = tmp_path / "mirror"
    bring_all(published, mirror)
    for path in sorted(mirror.glob("*/*.tif"))[30:]:
        path.write_bytes(b"")
    with pytest.raises(BadInputError, match=r"files in a row could not be fetched"):
        bring(target, options(source=str(mirror), retries=0, parallel=4))


def change(root, name, column, value, row=0):
    path = root / name
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[row, column] = value
    table.to_csv(path, index=False)


def test_a_row_without_checksum(target, published, options):
    change(target, "features_metadata.csv", "cksum", "")
    with pytest.raises(BadInputError, match=r"no valid cksum for 00000000_S1_00.tif .*fetch the"):
        bring(target, options(source=str(published)))


def test_a_row_with_a_wrong_size(target, published, options):
    change(target, "features_metadata.csv", "size", "77")
    table = bring(target, options(source=str(published), retries=0))
    assert counts(table) == {"fetched": 87, "failed": 1}
    (reason,) = table.loc[table["status"] == "failed", "reason"]
    assert "instead of 77" in reason


@pytest.mark.parametrize("name", ["../00000000_S1_00.tif", "/tmp/00000000_S1_00.tif", r"..\a.tif"])
def test_a_path_that_climbs(target, published, options, name):
    change(target, "features_metadata.csv", "filename", name)
    with pytest.raises(BadInputError, match=r"leads out of the archive's folder"):
        bring(target, options(source=str(published)))


def test_a_label_whose_path_climbs(target, published, options):
    change(target, "train_agbm_metadata.csv", "filename", "../00000000_agbm.tif")
    with pytest.raises(BadInputError, match=r"leads out of the archive's folder"):
        bring(target, options(source=str(published)))


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/../../etc/passwd", "s3://localhost#/x", "s3://127.0.0.1:80/x", "s3://a@b.c/x",
     "http://localhost/x", "s3:///x"],
)  # fmt: skip
def test_an_address_that_is_in_no_bucket(target, published, options, address):
    change(target, "features_metadata.csv", "s3path_eu", address)
    with pytest.raises(BadInputError, match=r"is none in a bucket"):
        bring(target, options(endpoint="http://127.0.0.1:9"))


def test_unknown_sources(target, options):
    for source in ("ftp://x", "/no/such/folder"):
        with pytest.raises(BadInputError, match=r"acquisition.source"):
            bring(target, options(source=source))
    with pytest.raises(BadInputError, match=r"^s3://localhost#/\S+ names no bucket"):
        bring(target, options(source="s3://localhost#/mirror"))
    with pytest.raises(BadInputError, match=r"^s3://localhost#/x.tar names no bucket"):
        bring(target, options(tar_parts=["s3://localhost#/x.tar"]))


def test_a_simulated_archive_is_left_alone(target, published, options):
    (target / ".generated-archive").touch()
    with pytest.raises(BadInputError, match="simulated archive"):
        bring(target, options(source=str(published)))


def test_a_full_disk(target, published, options):
    folder = target / "train_agbm"
    folder.mkdir()
    (folder / ".00000002_agbm.tif.partial").symlink_to("/dev/full")
    with pytest.raises(BadInputError, match=r"disk is full .* free some space and run again"):
        bring(target, options(source=str(published)))
    assert counts(bring(target, options(source=str(published))))["complete"] > 0


RUN = """
import signal
import sys
from pathlib import Path
from biomassters.acquisition.acquire import acquire
from biomassters.acquisition.options import AcquisitionOptions
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's "&" takes away
options = AcquisitionOptions(endpoint=sys.argv[2], parallel=2, timeout_s=1, retries=1000)
print("go", flush=True)
acquire(Path(sys.argv[1]), options)
"""


def start(root, url):
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(root), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "go\n"
    return process


def test_two_runs_at_once(serve, target, published, options):
    url = serve(published.parent, "--silent-after", "20")  # so that it can't end
    process = start(target, url)
    try:
        while not list(target.glob("*/*.tif")):
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(BadInputError, match=r"Another run is fetching into .* wait until"):
            bring(target, options(endpoint=url))
    finally:
        process.kill()
        process.wait()


def test_ctrl_c(serve, target, published, options, files_of):
    """In the middle, with a server that goes silent: it ends at once, and the next run goes on."""
    process = start(target, serve(published.parent, "--silent-after", "20"))
    while len(files_of(target)) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode != 0
    assert "what has arrived is kept. Run the same command again to continue." in said
    assert counts(bring(target, options(source=str(published))))["complete"] >= 10
    assert files_of(target) == files_of(published)


STANDING = """
import sys
from pathlib import Path
from biomassters.acquisition.acquire import acquire
from biomassters.acquisition.options import AcquisitionOptions
stand_still_at(int(sys.argv[1]))
acquire(Path(sys.argv[2]), AcquisitionOptions(endpoint=sys.argv[3], parallel=2))
"""


@pytest.mark.slow
def test_ten_kills(serve, target, published, options, files_of, fork):
    """Killed ten times while files arrive, the next run ends as an uninterrupted one."""
    url = serve(published.parent, "--latency-ms", "20", "--failures", "0.05")
    right = files_of(published)
    for kill in range(10):
        before = len(files_of(target))
        process = fork(STANDING, before + 4, target, url)
        while len(files_of(target)) < before + 3:
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(0.003 * kill)
        process.kill()
        process.wait()
        assert all(right[name] == data for name, data in files_of(target).items())
    table = bring(target, options(endpoint=url))
    assert len(table) == 88
    assert counts(table)["complete"] >= 30
    assert files_of(target) == right
    assert not list(target.rglob("*.partial"))
