"""All blocks of a region: on this process or on Dask's workers, resumable."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.regions.block_folder import BlockFolder
from biomassters.regions.block_map import BlockMap
from biomassters.regions.block_task import BlockTask, FailedBlock
from biomassters.regions.lattice import Block
from biomassters.workers.options import DaskOptions
from biomassters.workers.pool import Workers

log = logging.getLogger(__name__)
_NAMED = 3  # failed blocks that the message spells out
_WAITING_WRITES = 2


@dataclass(frozen=True)
class PredictionTimes:
    """Where the time went.

    Attributes:
        wall_s: From the first block to the last.
        network_s: Within the networks.
        chips: Chips predicted.
        blocks: Blocks done in this run.
    """

    wall_s: float
    network_s: float
    chips: int
    blocks: int

    @property
    def network_share(self) -> float:
        """Share of the time that was spent within the networks."""
        return self.network_s / self.wall_s if self.wall_s else 0.0


def predict_region(
    task: BlockTask, folder: BlockFolder, workers: Workers | None = None, *, progress: bool = True
) -> PredictionTimes:
    """Predict every block that isn't there yet.

    Args:
        task: How a block becomes a part of the map.
        folder: Finished blocks.
        workers: Processes, or None: this one, which reads, predicts and writes at the same time.
        progress: Show a bar on stderr.

    Raises:
        BadInputError: Images of some blocks can't be read; all others are done by then.
    """
    blocks = [block for block in task.lattice.blocks() if not folder.has(block)]
    total = len(task.lattice.blocks())
    if len(blocks) < total:
        log.info("%d of %d blocks are there already.", total - len(blocks), total)
    failed: list[FailedBlock] = []
    started, network_s, chips = time.perf_counter(), 0.0, 0
    bar = Progress("mapping", total, done=total - len(blocks), shown=progress)
    with bar, _Writer(folder) as writer:
        for result in _results(task, blocks, workers):
            if isinstance(result, FailedBlock):
                failed.append(result)
                bar.note(f"{len(failed)} blocks can't be mapped")
            else:
                writer.save(result)
                network_s, chips = network_s + result.network_s, chips + result.chips
            bar.update()
    if failed:
        folder.note_damaged({one.path for one in failed})
        raise _failure(failed, total)
    return PredictionTimes(time.perf_counter() - started, network_s, chips, len(blocks))


def process_workers(dask: DaskOptions, processes: int, memory_gb: float) -> Workers | None:
    """Processes that were asked for, or None: this process alone."""
    if dask.scheduler_address is None and not processes:
        return None
    from biomassters.workers.cluster import DaskWorkers  # takes a second to import

    local = {"workers": processes or dask.workers, "memory_per_worker_gb": memory_gb}
    memory = "mapping.memory_per_process_gb"
    return DaskWorkers(dask.model_copy(update=local), items=("block", memory))


def _results(
    task: BlockTask, blocks: list[Block], workers: Workers | None
) -> Iterator[BlockMap | FailedBlock]:
    if workers is None:
        yield from task.each(blocks)
    else:
        for _, result in workers.each(task, blocks):
            yield result


class _Writer:
    """One thread that writes blocks, a few behind the prediction; its errors come out here."""

    def __init__(self, folder: BlockFolder) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="block writer")
        self._waiting: list[Future[None]] = []

    def __enter__(self) -> "_Writer":
        return self

    def save(self, result: BlockMap) -> None:
        self._waiting.append(self._pool.submit(self._folder.save, result))
        while len(self._waiting) > _WAITING_WRITES:
            self._waiting.pop(0).result()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._pool.shutdown()
        if kind is None:
            for one in self._waiting:
                one.result()


def _failure(failed: list[FailedBlock], total: int) -> BadInputError:
    named = " ".join(f"Block {one.block.name}: {one.reason}" for one in failed[:_NAMED])
    more = f" (and {len(failed) - _NAMED} more)" if len(failed) > _NAMED else ""
    return BadInputError(
        f"{len(failed)} of {total} blocks could not be mapped. {named}{more} All other blocks are "
        "kept: mend the files and run the same command again."
    )
