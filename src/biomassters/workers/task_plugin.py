"""How a task comes to Dask's workers: once a worker, also to one that joins later."""

import ctypes
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from biomassters.errors import BadInputError

PACKAGE = "biomassters"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


class TaskPlugin(WorkerPlugin):
    """A task that waits on a worker for its items.

    A task may hold the listing of a whole archive, too much to send with every item. Data that
    ``Client.scatter`` sends dies with the workers that hold it; a plugin the scheduler gives
    to every new worker as well.

    Args:
        name: Its name on the worker.
        task: The task.
    """

    def __init__(self, name: str, task: Callable[[Any], Any]) -> None:
        self.name = name
        self.task = task
        self._version = version(PACKAGE)

    def setup(self, worker: Worker) -> None:
        """Note who this is; Dask lets a worker that joins later work even if this raises."""
        self._address, self._found = worker.address, version(PACKAGE)
        keep_memory()

    def run(self, item: Any) -> Any:
        """Call the task; a worker of another release might write something else.

        Raises:
            BadInputError: This is one.
        """
        require_version(self._address, self._found, self._version)
        return self.task(item)


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


def run_task(name: str, item: Any) -> Any:
    """Call the task of a name with an item; runs on a worker."""
    return get_worker().plugins[name].run(item)  # type: ignore[attr-defined]


def require_version(address: str, found: str, own: str) -> None:
    """Check a worker's version of the package.

    Raises:
        BadInputError: It isn't this one.
    """
    if found != own:
        raise BadInputError(
            f"The Dask worker {address} has {PACKAGE} {found}, but this run has {own}: install "
            "the same version on both."
        )
