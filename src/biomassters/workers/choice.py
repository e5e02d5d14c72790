"""Threads or processes: which workers a run takes."""

from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Threads, Workers


def choose_workers(options: DaskOptions, chips: int) -> Workers:
    """Workers for so many chips.

    Args:
        options: What the user asks for.
        chips: Number of chips to work on.

    Returns:
        Dask's workers where a scheduler is named or many chips are worth starting processes;
        threads otherwise.
    """
    local = options.scheduler_address is None
    if local and (options.workers == 0 or chips < options.minimum_chips):
        return Threads()
    from biomassters.workers.cluster import DaskWorkers  # takes a second to import

    return DaskWorkers(options)
