"""Dask's workers: same results as threads, deaths survived, refusals in a sentence."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import dask
import pandas as pd
import pytest
from distributed import Nanny, Status
from distributed.process import AsyncProcess

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.quality.verification import VerificationOptions, verify_archive
from biomassters.chips.store.layout import IMAGE_ARRAYS
from biomassters.chips.store.store_files import FolderFiles
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.io.storage import listing, read
from biomassters.workers.cluster import DaskWorkers
from biomassters.workers.options import DaskOptions

from .conftest import Cluster

pytestmark = pytest.mark.slow


def workers_at(address, timeout_s=300):
    return DaskWorkers(DaskOptions(scheduler_address=address, timeout_s=timeout_s))


class Killing:
    """Workers of which one is killed as soon as some results have come."""

    def __init__(self, workers, victim, after=2):
        self._workers, self._victim, self._after = workers, victim, after

    def each(self, task, items):
        for count, result in enumerate(self._workers.each(task, items), 1):
            if count == self._after and self._victim.poll() is None:
                self._victim.kill()
                self._victim.wait()
            yield result


def files_of(place):
    if isinstance(place, str):
        return {name: read(f"{place}/{name}") for name in listing(place)}
    files = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def data_work(archive_root, folder, workers_of, store=None):
    """Verification, inspection and packing; what they give."""
    archive = Archive.open(archive_root)
    verification = verify_archive(
        archive, folder / "work", VerificationOptions(), workers_of("verify")
    )
    table, statistics = inspect_archive(
        archive, InspectionOptions(), workers_of("inspect"), verification
    )
    packed = write_store(
        store or folder / "store",
        UsableChips(archive, table),
        workers=workers_of("pack"),
    )
    return verification, table, statistics.to_frame(), packed.fingerprint, files_of(packed.path)


def same(first, second):
    for one, other in zip(first[:3], second[:3], strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert first[3:] == second[3:]


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_workers_killed_on_the_way(cluster, archive_root, tmp_path, where, request):
    """Of two workers one is killed in every stage, and another joins: the results of threads.

    In a bucket, all of them read from an S3 server and write the store there.
    """
    root, store = archive_root, None
    if where == "bucket":
        request.getfixturevalue("s3_access").upload("forest", archive_root, "archive/")
        root, store = "s3://forest/archive", "s3://forest/chips.zarr"
    cluster.start_worker()
    victims = [cluster.start_worker()]
    workers = workers_at(cluster.address)

    def killing(stage):
        if stage != "verify":
            victims.append(cluster.start_worker())
        cluster.wait_for(2)
        return Killing(workers, victims[-1])

    found = data_work(root, tmp_path / "there", killing, store)
    assert [victim.poll() for victim in victims] == [-signal.SIGKILL] * 3
    expected = data_work(archive_root, tmp_path / "here", lambda _: None)
    if where == "bucket":  # the sources' signatures are others
        assert found[-1].pop("manifest.json") != expected[-1].pop("manifest.json")
    same(found, expected)


class KillingItsOwn:
    """Processes of this machine, of which one is killed when the first result is there."""

    def __init__(self, workers):
        self._workers, self.killed = workers, []

    def each(self, task, items):
        for result in self._workers.each(task, items):
            if not self.killed:
                running = [one for one in Nanny._instances if one.status is Status.running]
                self.killed = [running[0].pid]
                os.kill(running[0].pid, signal.SIGKILL)
            yield result


def test_a_process_of_this_machine_killed_while_it_packs(archive_root, tmp_path):
    """Another takes its place, and the store has the same bytes."""
    archive = Archive.open(archive_root)
    table, _ = inspect_archive(archive, InspectionOptions())
    source = UsableChips(archive, table)
    workers = KillingItsOwn(DaskWorkers(DaskOptions(workers=2, timeout_s=300)))
    write_store(tmp_path / "there", source, workers=workers)
    write_store(tmp_path / "here", source)
    (pid,) = workers.killed
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_the_last_worker_dies(cluster):
    victim = cluster.start_worker()
    cluster.wait_for(1)
    killing = Killing(workers_at(cluster.address, timeout_s=3), victim, after=1)
    with pytest.raises(BadInputError, match=r"no workers for 3 s: start some with its address"):
        list(killing.each(len, ["a"] * 20))
    assert victim.poll() == -signal.SIGKILL


@pytest.mark.parametrize("another", [True, False])
def test_results_that_died_with_their_worker(cluster, another):
    """Three were done; one had come here when the worker that held the others was killed."""
    victim = cluster.start_worker()
    cluster.wait_for(1)
    results = workers_at(cluster.address, timeout_s=300 if another else 3).each(len, "abc")
    found = [next(results)]
    cluster.wait_until_done()
    victim.kill()
    if another:
        cluster.start_worker()
        assert sorted([*found, *results]) == [(0, 1), (1, 1), (2, 1)]
    else:
        with pytest.raises(BadInputError, match=r"no workers for 3 s"):
            next(results)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "nonsense://x:1"])
def test_nobody_answers(address):
    started = time.monotonic()
    with pytest.raises(BadInputError, match=rf"nobody answers at {address} within 1 s"):
        list(workers_at(address, timeout_s=1).each(len, ["a"]))
    assert time.monotonic() - started < 25  # Dask's own patience is 30 s


GIVEN_UP = """
import sys
from biomassters.errors import BadInputError
from biomassters.workers.cluster import DaskWorkers
from biomassters.workers.options import DaskOptions
try:
    list(DaskWorkers(DaskOptions(scheduler_address=sys.argv[1])).each(len, ["a"]))
except BadInputError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["nobody", "silent", "another protocol"])
def test_no_scheduler_is_given_up_quickly_and_quietly(kind):
    """With the default options, also by a server that Dask's own client never gives up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "tcp://127.0.0.1:9"
        if kind != "nobody":
            address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if kind == "another protocol":
            threading.Thread(target=speak_http, args=(server,), daemon=True).start()
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", GIVEN_UP, address], capture_output=True, text=True, timeout=120
        )
        seconds = time.monotonic() - started
    assert f"nobody answers at {address} within 3 s" in done.stdout
    assert ("is no Dask scheduler" in done.stdout) == (kind == "another protocol")
    assert done.stderr == ""
    print(f"{kind}: {seconds:.1f} s")  # noqa: T201
    assert seconds < 15  # 3 s and the imports, on a busy machine


def speak_http(server):
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        connection.recv(4096)


def test_a_scheduler_without_workers(cluster):
    with pytest.raises(BadInputError, match=r"no workers for 3 s"):
        list(workers_at(cluster.address, timeout_s=3).each(len, ["a"]))


@pytest.fixture
def other_version(tmp_path):
    """A folder whose installed metadata say another version of the package."""
    other = tmp_path / "other" / "biomassters-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: biomassters\nVersion: 9.9\n")
    return str(other.parent)


def test_a_worker_of_another_version_that_joins_later(cluster, other_version):
    early = cluster.start_worker()
    cluster.wait_for(1)
    results = workers_at(cluster.address).each(len, ["a"] * 30)
    next(results)
    cluster.start_worker(python_path=other_version)
    cluster.wait_for(2)
    early.kill()
    with pytest.raises(BadInputError, match=r"has biomassters 9\.9, but this run has \d.*install"):
        list(results)


def test_workers_of_another_version(cluster, other_version):
    cluster.start_worker(python_path=other_version)
    with pytest.raises(BadInputError, match=r"has biomassters 9\.9, but this run has \d.*install"):
        list(workers_at(cluster.address).each(len, ["a"]))


def test_a_disk_that_fills_up_under_a_worker(cluster, archive_root, tmp_path):
    cluster.start_worker()
    archive = Archive.open(archive_root)
    table, _ = inspect_archive(archive, InspectionOptions())
    source, store = UsableChips(archive, table), tmp_path / "store"
    second = source.splits()["train"][1]

    class Filling(UsableChips):
        """The disk is full when the second chip is written, on a worker."""

        def read_chip(self, chip_id):
            if chip_id == second:
                (growing,) = store.with_name("store.partial").glob("[!.]*")
                shard = IMAGE_ARRAYS[1].key("train", 1)
                FolderFiles(growing).temporary_path(shard).symlink_to("/dev/full")
            return super().read_chip(chip_id)

    with pytest.raises(BadInputError, match=r"disk is full while packing .* free some space"):
        write_store(store, Filling(archive, table), workers=workers_at(cluster.address))
    fresh = write_store(tmp_path / "fresh", source)
    write_store(store, source, workers=workers_at(cluster.address))
    assert files_of(store) == files_of(fresh.path)


def test_errors_of_a_chip_arrive(cluster, archive_root):
    cluster.start_worker()
    archive = Archive.open(archive_root)
    with pytest.raises(BadInputError, match="no chip 'nope'"):
        list(workers_at(cluster.address).each(archive.read_chip, ["nope"]))


def test_a_cluster_of_this_machine():
    options = DaskOptions(workers=2, minimum_chips=0, timeout_s=300)
    words = ["a" * length for length in range(20)]
    assert sorted(DaskWorkers(options).each(len, words)) == [(n, n) for n in range(20)]


def test_other_work_of_dask_stays_where_it_was(cluster):
    """xarray reads a store as before, while workers are used and after."""
    cluster.start_worker()
    cluster.wait_for(1)
    first, second = (workers_at(cluster.address).each(len, ["a"] * 9) for _ in range(2))
    next(first), next(second)
    during = dask.config.get("scheduler", None)
    first.close()
    second.close()
    assert (during, dask.config.get("scheduler", None)) == (None, None)


def test_an_item_that_ends_its_workers_is_named():
    workers = DaskWorkers(DaskOptions(workers=1), items=("block", "mapping.memory"))
    with pytest.raises(BadInputError, match=r"^Block 1 ended several workers .* mapping\.memory,"):
        list(workers.each(os._exit, [1]))


def test_processes_that_do_not_close_in_order_hide_nothing():
    """As when a worker has died, and the process in its place is not started yet."""
    results = DaskWorkers(DaskOptions(workers=1)).each(len, ["a"] * 9)
    found = [next(results) for _ in range(9)]
    (nanny,) = (nanny for nanny in Nanny._instances if nanny.status is Status.running)
    started = nanny.process.process
    nanny.process.process = AsyncProcess(target=print, loop=nanny.loop)
    assert (len(found), list(results)) == (9, [])
    started.close()


def test_the_scheduler_dies(forks, tmp_path):
    cluster = Cluster(forks, tmp_path)
    worker = cluster.start_worker()
    try:
        cluster.wait_for(1)
        results = workers_at(cluster.address, timeout_s=3).each(len, ["a"] * 20)
        next(results)
        cluster.close()
        with pytest.raises(BadInputError, match="connection to the Dask scheduler was lost: start"):
            list(results)
    finally:
        cluster.close()
        worker.kill()
        worker.wait()
