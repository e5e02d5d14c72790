"""Dask's workers: processes on this machine, or those of a scheduler that runs already.

Top to bottom: the pool (``DaskWorkers``), the cluster behind it, whether a scheduler answers, what
runs on a worker, and the queue of items on their way.
"""

import asyncio
import ctypes
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import dask
from distributed import (
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    Security,
    Worker,
    WorkerPlugin,
    get_worker,
)
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError, connect

from biomassters.errors import BadInputError
from biomassters.messages import HIDDEN
from biomassters.workers.cores import processors
from biomassters.workers.options import DaskOptions

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_PACKAGE = "biomassters"
# Dask looks at its own processes 100 times a second by default, for pages that nobody opens: 3 %
# of a processor in each of them.
_UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LOOK_S = 2.0  # between two looks at whether anyone still works
_IN_FLIGHT = 3  # items a thread: one in work, and two so that it never waits for the scheduler


class DaskWorkers:
    """Workers of a Dask cluster, which is started for each call unless there is an address.

    Args:
        options: Where they are, or how many to start.
        items: What an item is, and the option of a worker's memory: for messages.
    """

    def __init__(
        self, options: DaskOptions, items: tuple[str, str] = ("chip", "dask.memory_per_worker_gb")
    ) -> None:
        self._options, self._items = options, items

    def each(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """See ``Workers.each``; a worker that dies costs only its items in flight.

        Raises:
            BadInputError: Nobody answers at the address, the scheduler is gone, no worker is left,
                workers have another version of the package, or one item ended several workers.
        """
        with _client(self._options) as client:
            _check_workers(client, self._options.timeout_s)
            name = f"{_PACKAGE}-{uuid.uuid4().hex}"
            client.register_plugin(_TaskPlugin(name, task), name=name)
            try:
                yield from _TaskQueue(client, name, self._options.timeout_s, self._items).each(
                    items
                )
            finally:
                if client.status == "running":
                    client.unregister_worker_plugin(name)


# ---- The cluster


@contextmanager
def _client(options: DaskOptions) -> Iterator[Client]:
    """A client of the running scheduler, or of a cluster of our own."""
    address = options.scheduler_address
    if address is not None:
        require_scheduler(options)
        client = Client(address, timeout=options.timeout_s, set_as_default=False)
        try:
            yield client
        finally:
            client.close(timeout=options.timeout_s)
        return
    workers = options.workers or processors()
    cluster = local_cluster(workers, int(options.memory_per_worker_gb * 1e9))
    try:
        with Client(cluster, set_as_default=False) as client:
            yield client
    finally:
        try:
            cluster.close()
        except Exception:
            # Dask stumbles over a process that it was just starting in place of one that died. All
            # results have come by now, and its processes end with this one at the latest: no word
            # of that may hide how the work itself ended.
            logger.debug("Dask's processes were not closed in order.", exc_info=True)


def local_cluster(workers: int, memory_bytes: int) -> LocalCluster:
    """Processes of this machine that only this machine can talk to; each does one item at a time.

    One that takes ``memory_bytes`` is ended and started again.
    """
    # Without addresses, scheduler and workers serve their status pages to the whole network.
    with dask.config.set(_UNWATCHED):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,  # counting and masking hold the GIL
            memory_limit=memory_bytes,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )


def _check_workers(client: Client, timeout_s: float) -> None:
    try:
        client.wait_for_workers(1, timeout=timeout_s)
    except TimeoutError:
        raise _no_workers(timeout_s) from None
    # A function of the standard library, for a worker without the package to name that as well.
    for address, found in client.run(version, _PACKAGE, on_error="return").items():
        if isinstance(found, BaseException):
            found = "not installed"
        _require_version(address, str(found), version(_PACKAGE))


def require_scheduler(options: DaskOptions) -> None:
    """Say hello to the scheduler at the options' address, before there is a client.

    Dask's own client waits for ever for a server that accepts a connection and says nothing, and
    its end is noisy when there was no scheduler.

    Raises:
        BadInputError: Nobody answers there in time, or somebody who is no scheduler.
    """
    address = options.scheduler_address
    assert address is not None
    seconds = min(options.connect_timeout_s, options.timeout_s)
    try:
        # In a thread, for a notebook has an event loop of its own already.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(_hello(address, seconds))).result()
        return
    except OSError:  # TimeoutError is one
        reason = ""
    except (TypeError, ValueError) as error:  # an odd address, or TLS without a certificate
        login = address.partition("://")[2].rpartition("@")[0]
        said = str(error).replace(login, HIDDEN) if login else str(error)
        reason = f" ({' '.join(said.split()).rstrip('.')})"
    except Exception:  # Dask takes another protocol's words for numbers of bytes
        reason = " (what answers is no Dask scheduler)"
    raise BadInputError(
        f"dask.scheduler_address: nobody answers at {address} within {seconds:g} s{reason}: start "
        "the scheduler there (dask.connect_timeout_s waits longer for it), or leave the address "
        "out to work on this machine."
    )


async def _hello(address: str, seconds: float) -> None:
    how = Security().get_connection_args("client")
    # The time limit of Dask's own is that of the connection, not of what is said over it.
    comm = await asyncio.wait_for(connect(address, timeout=seconds, **how), seconds)
    comm.abort()


# ---- On a worker


class _TaskPlugin(WorkerPlugin):
    """A task that waits on a worker for its items, also on one that joins later.

    A task may hold the listing of a whole archive, too much to send with every item. Data that
    ``Client.scatter`` sends dies with the workers that hold it; a plugin the scheduler gives
    to every new worker as well.
    """

    def __init__(self, name: str, task: Callable[[Any], Any]) -> None:
        self.name = name
        self.task = task
        self._version = version(_PACKAGE)

    def setup(self, worker: Worker) -> None:
        """Note who this is; Dask lets a worker that joins later work even if this raises."""
        self._address, self._found = worker.address, version(_PACKAGE)
        keep_memory()

    def run(self, item: Any) -> Any:
        """Call the task; a worker of another release might write something else."""
        _require_version(self._address, self._found, self._version)
        return self.task(item)


def _run_task(name: str, item: Any) -> Any:
    return get_worker().plugins[name].run(item)  # type: ignore[attr-defined]


def _require_version(address: str, found: str, own: str) -> None:
    if found != own:
        raise BadInputError(
            f"The Dask worker {address} has {_PACKAGE} {found}, but this run has {own}: install "
            "the same version on both."
        )


def keep_memory() -> None:
    """Let this process use the memory of one item for the next.

    Dask starts workers so that every array goes back to the system at once
    (``MALLOC_TRIM_THRESHOLD_``), and the system then fills each new one with zeros: that took as
    long as all the work on a chip.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of the GNU C library
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # its largest value; a chip's arrays are smaller
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


# ---- Items on their way


class _TaskQueue:
    """Items on their way: a few a worker, so that neither scheduler nor memory fills up.

    ``distributed.as_completed`` would do but for two things: it waits for ever when the last worker
    dies, and with results it forgets an item whose result died with its worker and whose
    repetition failed.
    """

    def __init__(self, client: Client, name: str, timeout_s: float, words: tuple[str, str]) -> None:
        self._client, self._name, self._timeout_s = client, name, timeout_s
        self._item, self._memory = words
        self._done: SimpleQueue[Future] = SimpleQueue()
        self._waiting: dict[str, tuple[int, Future]] = {}  # keeps the futures alive, too

    def each(self, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        try:
            width = self._width()
            for number, item in enumerate(items):
                key = f"{self._name}-{number}"
                future = self._client.submit(_run_task, self._name, item, key=key, pure=False)
                self._waiting[key] = number, future
                future.add_done_callback(self._done.put)
                if len(self._waiting) >= width:
                    yield self._next()
                    width = self._width() if number % width == 0 else width
            while self._waiting:
                yield self._next()
        except (FutureCancelledError, CommClosedError):  # which of them is a matter of the moment
            raise _lost_scheduler() from None
        finally:
            self._client.cancel([future for _, future in self._waiting.values()])

    def _width(self) -> int:
        return _IN_FLIGHT * max(1, sum(self._client.nthreads().values()))

    def _next(self) -> tuple[int, Any]:
        future = self._finished()
        number, _ = self._waiting[str(future.key)]
        try:
            result = self._result(future)
        except KilledWorker as error:
            raise BadInputError(
                f"{self._item.capitalize()} {number + 1} ended several workers one after another: "
                f"raise {self._memory}, or look at the workers' logs."
            ) from error
        del self._waiting[str(future.key)]
        return number, result

    def _finished(self) -> Future:
        last_seen = time.monotonic()
        while True:
            try:
                return self._done.get(timeout=_LOOK_S)
            except Empty:
                last_seen = self._look(last_seen)

    def _result(self, future: Future) -> Any:
        """A result, which lies with the worker: if that one has died since, others repeat it."""
        last_seen = time.monotonic()
        while True:
            try:
                return future.result(timeout=_LOOK_S)
            except TimeoutError:
                if future.status == "error":  # the task's own, or it failed just now
                    return future.result()
                last_seen = self._look(last_seen)

    def _look(self, last_seen: float) -> float:
        """When there were workers last; ends a run that nobody works for any more."""
        if self._client.status != "running":
            raise _lost_scheduler()
        now = time.monotonic()
        if self._client.nthreads():
            return now
        if now - last_seen > self._timeout_s:
            raise _no_workers(self._timeout_s)
        return last_seen


def _lost_scheduler() -> BadInputError:
    return BadInputError(
        "The connection to the Dask scheduler was lost: start it, and run again; what is done "
        "so far is kept."
    )


def _no_workers(timeout_s: float) -> BadInputError:
    return BadInputError(
        f"The Dask scheduler has had no workers for {timeout_s:g} s: start some with its address, "
        "and run again; what is done so far is kept."
    )
