import math
import operator
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.errors import BadInputError
from biomassters.workers import pool
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Threads, choose_workers, in_processes


@given(st.lists(st.text(max_size=5), max_size=30), st.integers(1, 6))
def test_every_item_once(items, threads):
    results = sorted(Threads(threads).each(len, items))
    assert results == [(number, len(item)) for number, item in enumerate(items)]


def test_only_a_few_are_in_flight():
    started, lock = [], threading.Lock()

    def task(item):
        with lock:
            started.append(item)
        return item

    results = Threads(2).each(task, range(100))
    next(results)
    time.sleep(0.05)
    assert len(started) <= 4
    assert len(list(results)) == 99


def test_an_error_ends_it():
    with pytest.raises(ZeroDivisionError):
        list(Threads(2).each(lambda item: 1 // item, [1, 0, 1]))


@pytest.mark.parametrize(
    ("options", "chips", "kind"),
    [
        ({}, 160, "Threads"),
        ({}, 500, "DaskWorkers"),
        ({"workers": 0}, 10_000, "Threads"),
        ({"minimum_chips": 0}, 1, "DaskWorkers"),
        ({"scheduler_address": "tcp://x:1", "workers": 0}, 1, "DaskWorkers"),
    ],
)
def test_who_works(options, chips, kind):
    assert type(choose_workers(DaskOptions(**options), chips)).__name__ == kind


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(pool, "processors", lambda: 2)


def test_processes_keep_the_order(two_cores):
    assert list(in_processes(operator.neg, range(40), least=2)) == [-n for n in range(40)]


def test_few_items_start_no_process(two_cores):
    pids = list(in_processes(lambda item: os.getpid(), range(3), least=4))  # can't be pickled
    assert pids == [os.getpid()] * 3


def test_an_error_in_a_process_comes_back(two_cores):
    results = in_processes(math.sqrt, [4, -1, 9], least=1)
    assert next(results) == 2.0
    with pytest.raises(ValueError, match="math domain error"):
        next(results)


def test_a_process_that_was_killed_is_one_sentence(two_cores):
    with pytest.raises(BadInputError, match="One of 2 processes was ended from outside"):
        list(in_processes(os._exit, [9] * 4, least=1))


_SLEEPERS = """
import time
from biomassters.workers import pool
if __name__ == "__main__":
    pool.processors = lambda: 2
    list(pool.in_processes(time.sleep, [300] * 4, least=1))
"""


@pytest.mark.slow
def test_processes_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(_SLEEPERS)
    parent = psutil.Process(subprocess.Popen([sys.executable, script]).pid)
    until = time.monotonic() + 60
    while len(sleepers := _pool_of(parent)) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert len(sleepers) == 2
    time.sleep(1)  # for the second to have begun
    parent.kill()
    parent.wait(10)
    _, alive = psutil.wait_procs(sleepers, timeout=30)
    assert not alive


def _pool_of(parent):
    spawned = ((child, " ".join(child.cmdline())) for child in parent.children())
    return [child for child, command in spawned if "spawn_main" in command]
