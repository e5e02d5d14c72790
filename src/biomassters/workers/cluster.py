"""Dask's workers: processes on this machine, or those of a scheduler that runs already."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import Any

import dask
import distributed
from distributed import Client, Future, LocalCluster

from biomassters.errors import BadInputError
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Item, Result, processors
from biomassters.workers.task_plugin import PACKAGE, TaskPlugin, require_version, run_task

_LOOK_S = 2.0  # between two looks at whether anyone still works
_IN_FLIGHT = 3  # items a thread: one in work, and two so that it never waits for the scheduler
# Dask looks at its own processes 100 times a second by default, for pages that nobody opens: 3 %
# of a processor in each of them.
_UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}


class DaskWorkers:
    """Workers of a Dask cluster, which is started for each call unless there is an address.

    Args:
        options: Where they are, or how many to start.
        items: What an item is, and the option of a worker's memory: for messages.
    """

    def __init__(
        self,
        options: DaskOptions,
        items: tuple[str, str] = ("chip", "dask.memory_per_worker_gb"),
    ) -> None:
        self._options, self._items = options, items

    def each(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """See ``Workers.each``; a worker that dies costs only its items in flight.

        Raises:
            BadInputError: Nobody answers at the address, no worker is left, workers have another
                version of the package, or one item ended several workers.
        """
        with _client(self._options) as client:
            _check_workers(client, self._options.timeout_s)
            name = f"{PACKAGE}-{uuid.uuid4().hex}"
            client.register_plugin(TaskPlugin(name, task), name=name)
            try:
                flight = _Flight(client, name, self._options.timeout_s, self._items)
                yield from flight.each(items)
            finally:
                if client.status == "running":
                    client.unregister_worker_plugin(name)


class _Flight:
    """Items on their way: a few a worker, so that neither scheduler nor memory fills up."""

    def __init__(self, client: Client, name: str, timeout_s: float, words: tuple[str, str]) -> None:
        self._client, self._name, self._timeout_s = client, name, timeout_s
        self._item, self._memory = words
        self._done: SimpleQueue[Future] = SimpleQueue()
        self._waiting: dict[str, tuple[int, Future]] = {}  # keeps the futures alive, too

    def each(self, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
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
        future = self._wait()
        number, _ = self._waiting.pop(str(future.key))
        try:
            return number, future.result()
        except distributed.KilledWorker as error:
            raise BadInputError(
                f"{self._item.capitalize()} {number + 1} ended several workers one after another: "
                f"raise {self._memory}, or look at the workers' logs."
            ) from error

    def _wait(self) -> Future:
        last_seen = time.monotonic()
        while True:
            try:
                return self._done.get(timeout=_LOOK_S)
            except Empty:
                if self._client.status != "running":
                    raise BadInputError(
                        "The connection to the Dask scheduler was lost: start it, and run again; "
                        "what is done so far is kept."
                    ) from None
            now = time.monotonic()
            if self._client.nthreads():
                last_seen = now
            elif now - last_seen > self._timeout_s:
                raise _no_workers(self._timeout_s)


@contextmanager
def _client(options: DaskOptions) -> Iterator[Client]:
    """A client of the running scheduler, or of a cluster of our own."""
    address = options.scheduler_address
    if address is not None:
        client = _connect(address, options.timeout_s)
        try:
            yield client
        finally:
            client.close(timeout=options.timeout_s)
        return
    workers = options.workers or processors()
    with (
        local_cluster(workers, int(options.memory_per_worker_gb * 1e9)) as cluster,
        Client(cluster) as client,
    ):
        yield client


def local_cluster(workers: int, memory_bytes: int) -> LocalCluster:
    """Processes of this machine that only this machine can talk to.

    Args:
        workers: How many; each does one item at a time.
        memory_bytes: At which a process is ended and started again.
    """
    # Without addresses, scheduler and workers serve their status pages to the whole network.
    with dask.config.set(_UNWATCHED):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,  # counting and masking hold Python's lock
            memory_limit=memory_bytes,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )


def _connect(address: str, timeout_s: float) -> Client:
    try:
        return Client(address, timeout=timeout_s)
    except (OSError, TimeoutError, ValueError) as error:
        raise BadInputError(
            f"dask.scheduler_address: nobody answers at {address} within {timeout_s:g} s: start "
            "the scheduler there, or leave the address out to work on this machine."
        ) from error


def _check_workers(client: Client, timeout_s: float) -> None:
    try:
        client.wait_for_workers(1, timeout=timeout_s)
    except TimeoutError:
        raise _no_workers(timeout_s) from None
    # A function of the standard library, for a worker without the package to name that as well.
    for address, found in client.run(version, PACKAGE, on_error="return").items():
        if isinstance(found, BaseException):
            found = "not installed"
        require_version(address, str(found), version(PACKAGE))


def _no_workers(timeout_s: float) -> BadInputError:
    return BadInputError(
        f"The Dask scheduler has had no workers for {timeout_s:g} s: start some with its address, "
        "and run again; what is done so far is kept."
    )
