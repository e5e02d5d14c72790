"""Parts of a batch side by side: a thread each, instead of every operation split over all cores.

torch splits a single convolution over OpenMP threads that wait for each other at its end, and
spin while they wait. Beside another busy process one of them is always late: on two cores the
default run fell to a quarter. Parts of a batch meet once a step only, and a core that has less
to do meanwhile takes the next part.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

from biomassters.workers.cores import say_once, usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


class PartThreads:
    """Threads that work on the parts of batches.

    Args:
        parts: Of a batch.
        cores: That they may keep busy.

    Attributes:
        count: Threads: not more than parts or cores.
        inside: torch's own threads in each: cores beyond the parts. Sums inside an operation
            depend on it in their last bits; on ``count`` nothing depends.
    """

    def __init__(self, parts: int, cores: int) -> None:
        self.count, self.inside = min(parts, cores), max(1, cores // parts)
        say_once(cores, parts, self.inside)
        self._pool = (
            ThreadPoolExecutor(
                self.count,
                thread_name_prefix="part",
                initializer=torch.set_num_threads,
                initargs=(self.inside,),
            )
            if self.count > 1
            else None
        )

    def run(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Work on every item and wait for all.

        Args:
            work: Runs in any thread, with the caller's autocast, gradient and inference modes.
            items: The parts.

        Returns:
            What ``work`` returned, in the order of the items.

        Raises:
            Exception: The first one by the order of the items, when all have ended.
        """
        if self._pool is None:
            with threads_inside(self.inside):
                return [work(item) for item in items]
        modes = _Modes()
        futures = [self._pool.submit(modes.call, work, item) for item in items]
        for future in futures:
            future.exception()  # nobody still works when the first error is raised
        return [future.result() for future in futures]


@lru_cache(maxsize=8)
def _threads(parts: int, cores: int, owner: int) -> PartThreads:
    return PartThreads(parts, cores)


def part_threads(parts: int, cores: int | None = None) -> PartThreads:
    """The threads for batches of some number of parts, made once a process.

    Args:
        parts: Of a batch.
        cores: That they may keep busy; None: all that the process may use.
    """
    # Of each thread that asks, so that nobody waits for parts of another's batch.
    return _threads(parts, cores or usable_cores(), threading.get_ident())


@contextmanager
def threads_inside(count: int) -> Iterator[None]:
    """Torch's threads inside an operation, in the calling thread, within the block."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


class _Modes:
    """The calling thread's modes, which torch keeps for each thread apart."""

    def __init__(self) -> None:
        self._inference = torch.is_inference_mode_enabled()
        self._gradients = torch.is_grad_enabled()
        self._autocast = torch.is_autocast_enabled("cpu")
        self._dtype = torch.get_autocast_dtype("cpu")

    def call(self, work: Callable[[Item], Result], item: Item) -> Result:
        """``work(item)`` in them."""
        with (
            torch.inference_mode(self._inference),
            torch.set_grad_enabled(self._gradients),
            torch.autocast("cpu", dtype=self._dtype, enabled=self._autocast),
        ):
            return work(item)
