"""What a pool of workers does, the one that every process has (threads), and which a run takes.

Processes, of this machine or elsewhere, are Dask's: ``cluster.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Protocol, TypeVar

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
