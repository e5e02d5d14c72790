"""Batches of packed months, read by threads straight into reused memory.

Worker processes would have to hand every array over; threads only share it. Reading and decoding
release the GIL, so a few threads keep as many cores busy.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence

from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.loading.batches import Batch, BatchBuffer, ReadTask
from biomassters.loading.samples import Sample

_LEAVE_S = 2.0
_LOOK_S = 1.0  # between two looks at whether the threads still live


class ThreadedLoader:
    """Reads given batches of samples, in their order, a few ahead.

    The tensors of a batch are views of memory that is filled again: they are valid until
    the next batch is asked for. (A copy that ``Batch.to`` has begun is waited for.) Months
    that a sample leaves out are never read. The memory stays with the loader, so give one
    loader the batches of each epoch with ``load``.

    Attributes:
        wait_s: Seconds that the consumer has waited in the current or last pass.

    Args:
        split: The chips.
        batches: Samples of each batch.
        crop: Height and width read of each chip, pixels; None for all of it.
        threads: Threads that read.
        prefetch: Batches read ahead of the one in use.
        pin_memory: Whether to lock the memory, for copies to a GPU.
        timeout_s: How long a month of a chip may take to read, seconds.

    Raises:
        BadInputError: A crop larger than the chip, no thread, or a negative prefetch.
    """

    def __init__(
        self,
        split: StoreSplit,
        batches: Sequence[Sequence[Sample]],
        *,
        crop: int | None,
        threads: int = 2,
        prefetch: int = 3,
        pin_memory: bool = False,
        timeout_s: float = 120.0,
    ) -> None:
        if threads < 1:
            raise BadInputError(f"threads is {threads}, but at least 1 must read.")
        if prefetch < 0:
            raise BadInputError(f"prefetch is {prefetch}, but can't be below 0.")
        if crop is not None and not 0 < crop <= min(split.height, split.width):
            raise BadInputError(
                f"crop is {crop}, but the chips have {split.height} x {split.width} pixels: "
                "choose a crop within them."
            )
        self._split = split
        self._batches = batches
        self._size = (split.height, split.width) if crop is None else (crop, crop)
        self._threads, self._prefetch = threads, prefetch
        self._pin_memory, self._timeout_s = pin_memory, timeout_s
        self._ring: list[BatchBuffer] = []
        self.wait_s = 0.0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return self.load(self._batches)

    def load(self, batches: Sequence[Sequence[Sample]]) -> Generator[Batch, None, None]:
        """Read batches of samples with the same memory; closed early, the threads end as well.

        Raises:
            BadInputError: A chip can't be read, takes longer than the timeout, or a thread ended.
        """
        self.wait_s = 0.0
        if not batches:
            return
        # A second iterator, or one after a thread that never came back, finds no ring here
        # and makes its own.
        ring, self._ring = self._ring, []
        chips = max(map(len, batches))
        if ring and ring[0].chips >= chips:
            chips = ring[0].chips
        else:
            ring = []
        while len(ring) < min(self._prefetch + 2, len(batches)):
            ring.append(BatchBuffer(chips, *self._size, self._pin_memory))
        reading = _ReadingThreads(self._split, self._threads, self._timeout_s)
        try:
            for number, buffer in zip(range(len(batches)), ring, strict=False):
                reading.submit(number, buffer, batches[number])
            for number, samples in enumerate(batches):
                start = time.perf_counter()
                reading.wait_for(number)
                self.wait_s += time.perf_counter() - start
                buffer = ring[number % len(ring)]
                yield buffer.batch(self._split, samples)
                if (later := number + len(ring)) < len(batches):
                    reading.submit(later, buffer, batches[later])
        finally:
            if reading.leave():
                self._ring = ring


class _ReadingThreads:
    """A few threads that work on one queue of chip-months.

    A chip-month is the unit of work, so all threads stay busy to the end of a batch; each
    task has its place in the buffers, so the result doesn't depend on who does what when.
    """

    def __init__(self, split: StoreSplit, threads: int, timeout_s: float) -> None:
        self._split = split
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._tasks: deque[tuple[BatchBuffer, ReadTask]] = deque()
        self._left: dict[int, int] = {}
        self._running: dict[int, tuple[ReadTask, float]] = {}
        self._failures: dict[int, Exception] = {}
        self._leaving = False
        self._threads = [
            threading.Thread(target=self._work, name=f"chip reader {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, number: int, buffer: BatchBuffer, samples: Sequence[Sample]) -> None:
        """Have a batch read into a buffer."""
        tasks = list(buffer.tasks(number, samples))
        with self._changed:
            self._left[number] = len(tasks)
            self._tasks.extend((buffer, task) for task in tasks)
            self._changed.notify_all()

    def wait_for(self, number: int) -> None:
        """Block until a batch is complete; raises what went wrong with it, naming the chip."""
        with self._changed:
            while self._left[number] and number not in self._failures:
                self._require_threads()
                self._changed.wait(min(_LOOK_S, self._until_stalled()))
            if number in self._failures:
                raise self._failures[number]
            del self._left[number]

    def leave(self) -> bool:
        """End the threads; what is not read yet is left.

        Returns:
            Whether all of them ended. One that hangs in the file system can't; it is a
            daemon and doesn't keep the process alive, but it may still write to its buffer.
        """
        # At the interpreter's exit a thread may have been frozen while it held the lock.
        if not self._changed.acquire(timeout=_LEAVE_S):
            return False
        try:
            self._leaving = True
            self._tasks.clear()
            self._changed.notify_all()
        finally:
            self._changed.release()
        deadline = time.monotonic() + _LEAVE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _require_threads(self) -> None:
        """What ends a thread is no ``Exception``, and nobody else would ever tell of it."""
        dead = next((thread for thread in self._threads if not thread.is_alive()), None)
        if dead is None:
            return
        task, _ = self._running.get(dead.ident or 0, (None, 0.0))
        doing = "" if task is None else f" while it read {self._name(task)}"
        raise BadInputError(
            f"The thread '{dead.name}' has ended{doing}: run again, training continues from its "
            "newest checkpoint; should it end once more, lower training.loader_threads."
        )

    def _until_stalled(self) -> float:
        """Seconds until the task that runs longest reaches the timeout."""
        if not self._running:
            return self._timeout_s
        task, start = min(self._running.values(), key=lambda running: running[1])
        rest = start + self._timeout_s - time.monotonic()
        if rest <= 0:
            raise BadInputError(
                f"Reading {self._name(task)} takes longer than {self._timeout_s:g} s: check the "
                "disk or network that the chip store lies on, then run again."
            )
        return rest

    def _name(self, task: ReadTask) -> str:
        what = "label" if task.month is None else f"month {task.month}"
        return f"chip {self._split.chip_ids[task.sample.chip]} ({what})"

    def _work(self) -> None:
        me = threading.get_ident()
        while (work := self._next(me)) is not None:
            buffer, task = work
            try:
                buffer.fill(self._split, task)
            except Exception as error:
                self._fail(task, error)
            with self._changed:
                del self._running[me]
                self._left[task.number] -= 1
                if not self._left[task.number]:
                    self._changed.notify_all()

    def _next(self, me: int) -> tuple[BatchBuffer, ReadTask] | None:
        with self._changed:
            while not self._tasks and not self._leaving:
                self._changed.wait()
            if self._leaving:
                return None
            buffer, task = self._tasks.popleft()
            self._running[me] = task, time.monotonic()
            return buffer, task

    def _fail(self, task: ReadTask, error: Exception) -> None:
        message = f"Reading {self._name(task)} failed: {error}"
        failure = (BadInputError if isinstance(error, BadInputError) else RuntimeError)(message)
        failure.__cause__ = error
        with self._changed:
            self._failures.setdefault(task.number, failure)
            self._changed.notify_all()
