import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Threads, choose_workers


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
