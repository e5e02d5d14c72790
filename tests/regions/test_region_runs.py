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

from .test_mapping import ONE_VIEW, plan_of

pytestmark = pytest.mark.slow
OPTIONS = {"window": 64, "overlap": 0.5}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_map(plan, scratch, dask=None):
    scratch.mkdir(exist_ok=True)
    predict_blocks(plan, scratch, dask or DaskOptions(), progress=False)
    finish_map(plan, scratch, None)
    return digest(plan.path)


SETUP = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from biomassters.inference.options import InferenceOptions
from biomassters.regions.mapping import WeightsFiles
from biomassters.regions.options import AreaOptions, ImageOptions, MappingOptions
from biomassters.regions.mapping import finish_map, plan_region, predict_blocks
from biomassters.regions.inputs.source import open_region
from biomassters.workers.options import DaskOptions
def work(images, weights, path, scratch):
    source = open_region(images, ImageOptions(), AreaOptions())
    files = WeightsFiles.of((weights,), "the weights")
    inference = InferenceOptions(views=("identity",), batch_size=3, device="cpu")
    options = MappingOptions(window=64, overlap=0.5)
    plan = plan_region(source, files, Path(path), options, inference)
    predict_blocks(plan, Path(scratch), DaskOptions(), progress=False)
    finish_map(plan, Path(scratch), None)
"""


def test_a_killed_run_ends_with_the_same_bytes(victims, region_folder, weights, tmp_path):
    """Kill −9 whenever another block is done; no block that was done is done again."""
    plan = plan_of(region_folder, weights, tmp_path / "alone.tif", **OPTIONS)
    expected = whole_map(plan, tmp_path / "alone")
    scratch, path = tmp_path / "scratch", tmp_path / "agb.tif"
    scratch.mkdir()
    call = "stand_still_at(argument); "
    call += f"work({str(region_folder)!r}, {str(weights)!r}, {str(path)!r}, {str(scratch)!r})"
    herd = victims(SETUP, call)
    kept: dict[str, int] = {}
    for _ in range(3):
        done = len(kept)
        pid = herd.start(done + 3)
        while len(list(scratch.glob("*.sums.npy"))) < done + 2:
            assert herd.alive(pid)
            time.sleep(0.002)
        herd.kill(pid)
        journal = (scratch / "journal.jsonl").read_text()
        now = {p.name: p.stat().st_mtime_ns for p in scratch.glob("*.sums.npy")
               if p.name[:9] in journal}  # fmt: skip
        assert all(now[name] == when for name, when in kept.items())
        kept = now
    assert not path.exists()
    herd.wait(herd.start(1000))
    assert digest(path) == expected
    assert list(scratch.glob("*.npy")) == []


def test_processes_give_the_same_map(region_folder, weights, tmp_path):
    """Two Dask workers, each with the network and one thread."""
    plan = plan_of(region_folder, weights, tmp_path / "here.tif", **OPTIONS)
    there = plan_of(
        region_folder, weights, tmp_path / "there.tif", processes=2, inference=ONE_VIEW, **OPTIONS
    )
    expected = whole_map(plan, tmp_path / "a")
    assert whole_map(there, tmp_path / "b", DaskOptions(timeout_s=300)) == expected


def test_a_worker_killed_on_the_way_changes_no_byte(region_folder, weights, tmp_path, monkeypatch):
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
    plan = plan_of(region_folder, weights, tmp_path / "here.tif", **OPTIONS)
    there = plan_of(region_folder, weights, tmp_path / "there.tif", processes=2, **OPTIONS)
    expected = whole_map(plan, tmp_path / "a")
    assert not killed
    assert whole_map(there, tmp_path / "b", DaskOptions(timeout_s=300)) == expected
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)
