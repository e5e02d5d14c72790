"""Items on their way to Dask's workers and back."""

import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import distributed
from distributed import Client, Future

from biomassters.errors import BadInputError
from biomassters.workers.task_plugin import run_task

_LOOK_S = 2.0  # between two looks at whether anyone still works
_IN_FLIGHT = 3  # items a thread: one in work, and two so that it never waits for the scheduler


class Flight:
    """Items on their way: a few a worker, so that neither scheduler nor memory fills up.

    Args:
        client: Of the cluster.
        name: The task's, see ``TaskPlugin``.
        timeout_s: Time without any worker after which it is given up.
        words: What an item is, and the option of a worker's memory: for messages.
    """

    def __init__(self, client: Client, name: str, timeout_s: float, words: tuple[str, str]) -> None:
        self._client, self._name, self._timeout_s = client, name, timeout_s
        self._item, self._memory = words
        self._done: SimpleQueue[Future] = SimpleQueue()
        self._waiting: dict[str, tuple[int, Future]] = {}  # keeps the futures alive, too

    def each(self, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Numbers of the items and what became of them, in the order of completion.

        Raises:
            BadInputError: No worker is left, the scheduler is gone, or one item ended several
                workers.
        """
        try:
            width = self._width()
            for number, item in enumerate(items):
                self._submit(number, item)
                if len(self._waiting) >= width:
                    yield self._next()
                    width = self._width() if number % width == 0 else width
            while self._waiting:
                yield self._next()
        finally:
            self._client.cancel([future for _, future in self._waiting.values()])

    def _width(self) -> int:
        return _IN_FLIGHT * max(1, sum(self._client.nthreads().values()))

    def _submit(self, number: int, item: Any) -> None:
        key = f"{self._name}-{number}"
        future = self._client.submit(run_task, self._name, item, key=key, pure=False)
        self._waiting[key] = number, future
        future.add_done_callback(self._done.put)

    def _next(self) -> tuple[int, Any]:
        future = self._finished()
        number, _ = self._waiting[str(future.key)]
        try:
            result = self._result(future)
        except distributed.KilledWorker as error:
            raise BadInputError(
                f"{self._item.capitalize()} {number + 1} ended several workers one after another: "
                f"raise {self._memory}, or look at the workers' logs."
            ) from error
        del self._waiting[str(future.key)]
        return number, result

    def _finished(self) -> Future:
        watch = _Watch(self._client, self._timeout_s)
        while True:
            try:
                return self._done.get(timeout=_LOOK_S)
            except Empty:
                watch.look()

    def _result(self, future: Future) -> Any:
        """A result, which lies with the worker: if that one has died since, others repeat it."""
        watch = _Watch(self._client, self._timeout_s)
        while True:
            try:
                return future.result(timeout=_LOOK_S)
            except TimeoutError:
                if future.status == "error":  # the task's own, or it failed just now
                    return future.result()
                watch.look()


class _Watch:
    """Ends a run that nobody works for any more."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client, self._timeout_s = client, timeout_s
        self._last_seen = time.monotonic()

    def look(self) -> None:
        if self._client.status != "running":
            raise BadInputError(
                "The connection to the Dask scheduler was lost: start it, and run again; what is "
                "done so far is kept."
            )
        now = time.monotonic()
        if self._client.nthreads():
            self._last_seen = now
        elif now - self._last_seen > self._timeout_s:
            raise no_workers(self._timeout_s)


def no_workers(timeout_s: float) -> BadInputError:
    """What to say when nobody has worked for so long."""
    return BadInputError(
        f"The Dask scheduler has had no workers for {timeout_s:g} s: start some with its address, "
        "and run again; what is done so far is kept."
    )
