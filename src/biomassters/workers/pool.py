"""What a pool of workers does, the one that every process has (threads), and which a run takes.

Processes, of this machine or elsewhere, are Dask's: ``cluster.py``. ``in_processes`` is for work of
half a minute that a Dask cluster would take too long to start for.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from threading import Event, Thread
from typing import Protocol, TypeVar

from biomassters.errors import BadInputError
from biomassters.workers.cores import processors
from biomassters.workers.options import DaskOptions

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST_THREADS = 8


class Workers(Protocol):
    """A pool that calls a task with every item."""

    def each(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """Call a task with every item, several at a time.

        Args:
            task: Picklable, safe to call from several threads, and safe to repeat: an item
                whose worker died is given to another one.
            items: What it is called with.

        Yields:
            Number of the item and what the task returned, in the order of completion.

        Raises:
            Exception: The first one that a task raised.
        """


class Threads:
    """Threads of this process.

    Args:
        count: How many; None takes one a processor, at most 8.
        ended: Set when the work ends, also early: tasks that take long may look at it.
    """

    def __init__(self, count: int | None = None, ended: Event | None = None) -> None:
        self.count = count or min(processors(), _MOST_THREADS)
        self._ended = ended or Event()

    def each(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """See ``Workers.each``; only a few items are in flight, so results never pile up."""
        waiting: dict[Future[Result], int] = {}
        pool = ThreadPoolExecutor(self.count, thread_name_prefix="worker")
        try:
            for number, item in enumerate(items):
                waiting[pool.submit(task, item)] = number
                if len(waiting) > self.count:
                    yield from _finished(waiting)
            while waiting:
                yield from _finished(waiting)
        finally:
            self._ended.set()
            pool.shutdown(cancel_futures=True)


def _finished(waiting: dict[Future[Result], int]) -> Iterator[tuple[int, Result]]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in sorted(done, key=waiting.__getitem__):
        yield waiting.pop(future), future.result()


def in_processes(
    task: Callable[[Item], Result], items: Sequence[Item], *, least: int
) -> Iterator[Result]:
    """Call a task with every item, in a process a core: for Python that holds the GIL.

    Args:
        task: Picklable.
        items: What it is called with.
        least: Items below which starting processes, two seconds each, does not pay; they and
            those of a machine with one core are worked here.

    Yields:
        What the task returned, in the order of the items; few are ahead of the one yielded.

    Raises:
        BadInputError: A process was killed, as happens when memory runs out.
    """
    count = processors()
    if count == 1 or len(items) < least:
        yield from map(task, items)
        return
    context = multiprocessing.get_context("spawn")  # a forked child inherits locks of threads
    pool = ProcessPoolExecutor(count, context, initializer=_begin_process)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(task, item))
            if len(ahead) > 2 * count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool as error:
        raise BadInputError(
            f"One of {count} processes was ended from outside, as the system does when memory "
            "runs out: free some memory and run again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_process() -> None:
    """Leave Ctrl-C to the parent, and go when it goes: a pool's process would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_its_end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait_for_its_end, daemon=True).start()


def choose_workers(options: DaskOptions, chips: int) -> Workers:
    """Workers for so many chips.

    Returns:
        Dask's workers where a scheduler is named or many chips are worth starting processes;
        threads otherwise.
    """
    local = options.scheduler_address is None
    if local and (options.workers == 0 or chips < options.minimum_chips):
        return Threads()
    from biomassters.workers.cluster import DaskWorkers  # takes a second to import

    return DaskWorkers(options)
