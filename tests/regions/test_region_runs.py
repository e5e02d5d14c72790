"""Killed runs and several processes: always the same bytes."""

import hashlib
import os
import signal
import time

import pytest
from distributed import Nanny, Status

from biomassters.regions.mapping import finish_map, predict_blocks
from biomassters.workers.cluster import DaskWorkers
from biomassters.workers.options import DaskOptions

from .test_mapping import plan_of

pytestmark = pytest.mark.slow
OPTIONS = {"window": 64, "overlap": 0.5}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_map(plan, scratch, dask=None):
    scratch.mkdir(exist_ok=True)
    predict_blocks(plan, scratch, dask or DaskOptions(), progress=False)
    finish_map(plan, scratch, None)
    return digest(plan.path)


@pytest.fixture(scope="module")
def expected(region_folder, weights, tmp_path_factory):
    """The map that one process makes without a break."""
    folder = tmp_path_factory.mktemp("alone")
    return whole_map(plan_of(region_folder, weights, folder / "agb.tif", **OPTIONS), folder)


RUN = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from biomassters.inference.options import InferenceOptions
from biomassters.regions.inputs.source import open_region
from biomassters.regions.mapping import WeightsFiles, finish_map, plan_region, predict_blocks
from biomassters.regions.options import AreaOptions, ImageOptions, MappingOptions
from biomassters.workers.options import DaskOptions
stand_still_at(int(sys.argv[1]))
images, weights, path, scratch = sys.argv[2:]
source = open_region(images, ImageOptions(), AreaOptions())
files = WeightsFiles.of((weights,), "the weights")
inference = InferenceOptions(views=("identity",), batch_size=3, device="cpu")
options = MappingOptions(window=64, overlap=0.5)
plan = plan_region(source, files, Path(path), options, inference)
predict_blocks(plan, Path(scratch), DaskOptions(), progress=False)
finish_map(plan, Path(scratch), None)
"""


def test_a_killed_run_ends_with_the_same_bytes(expected, fork, region_folder, weights, tmp_path):
    """Kill −9 whenever another block is done; no block that was done is done again."""
    scratch, path = tmp_path / "scratch", tmp_path / "agb.tif"
    scratch.mkdir()
    given = region_folder, weights, path, scratch
    kept: dict[str, int] = {}
    for _ in range(3):
        done = len(kept)
        process = fork(RUN, done + 3, *given)
        while len(list(scratch.glob("*.sums.npy"))) < done + 2:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
        journal = (scratch / "journal.jsonl").read_text()
        now = {p.name: p.stat().st_mtime_ns for p in scratch.glob("*.sums.npy")
               if p.name[:9] in journal}  # fmt: skip
        assert all(now[name] == when for name, when in kept.items())
        kept = now
    assert not path.exists()
    assert fork(RUN, 1000, *given).wait() == 0
    assert digest(path) == expected
    assert list(scratch.glob("*.npy")) == []


def test_processes_give_the_same_map(expected, region_folder, weights, tmp_path):
    """Two Dask workers, each with the network and one thread."""
    plan = plan_of(region_folder, weights, tmp_path / "agb.tif", processes=2, **OPTIONS)
    assert whole_map(plan, tmp_path / "scratch", DaskOptions(timeout_s=300)) == expected


def test_a_worker_killed_on_the_way_changes_no_byte(
    expected, region_folder, weights, tmp_path, monkeypatch
):
    """SIGKILL to one of two processes when the first block has come; its blocks are done again."""
    killed, each = [], DaskWorkers.each

    def killing(workers, task, items):
        for result in each(workers, task, items):
            if not killed:
                running = [one for one in Nanny._instances if one.status is Status.running]
                killed.append(running[0].pid)
                os.kill(running[0].pid, signal.SIGKILL)
            yield result

    monkeypatch.setattr(DaskWorkers, "each", killing)
    plan = plan_of(region_folder, weights, tmp_path / "agb.tif", processes=2, **OPTIONS)
    assert whole_map(plan, tmp_path / "scratch", DaskOptions(timeout_s=300)) == expected
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)
