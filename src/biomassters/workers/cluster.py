"""Dask's workers: processes on this machine, or those of a scheduler that runs already."""

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import dask
from distributed import Client, LocalCluster

from biomassters.workers.cores import processors
from biomassters.workers.flight import Flight, no_workers
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Item, Result
from biomassters.workers.scheduler import require_scheduler
from biomassters.workers.task_plugin import PACKAGE, TaskPlugin, require_version

logger = logging.getLogger(__name__)

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
                flight = Flight(client, name, self._options.timeout_s, self._items)
                yield from flight.each(items)
            finally:
                if client.status == "running":
                    client.unregister_worker_plugin(name)


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
        _close(cluster)


def _close(cluster: LocalCluster) -> None:
    """Ends the processes, without a word of Dask's hiding how the work itself ended."""
    try:
        cluster.close()
    except Exception:
        # Dask stumbles over a process that it was just starting in place of one that died. All
        # results have come by now, and its processes end with this one at the latest.
        logger.debug("Dask's processes were not closed in order.", exc_info=True)


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


def _check_workers(client: Client, timeout_s: float) -> None:
    try:
        client.wait_for_workers(1, timeout=timeout_s)
    except TimeoutError:
        raise no_workers(timeout_s) from None
    # A function of the standard library, for a worker without the package to name that as well.
    for address, found in client.run(version, PACKAGE, on_error="return").items():
        if isinstance(found, BaseException):
            found = "not installed"
        require_version(address, str(found), version(PACKAGE))
