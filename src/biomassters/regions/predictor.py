"""Blocks of a map predicted: which chips have data, what the networks say, blended.

``Predictor`` maps one block, ``BlockTask`` is the work of one process, and ``predict_region`` has
every block done that isn't there yet, here or on Dask's workers. The only module of ``regions``
that imports torch.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import slices_in
from biomassters.inference.device import autocast, choose_device, precision_used
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import MonthNetwork, predict_views, ready_network
from biomassters.io.raster_spec import DamagedFileError
from biomassters.regions.blocks import BlockFolder, BlockMap, return_freed_memory
from biomassters.regions.inputs.source import RegionSource, WindowImages
from biomassters.regions.tiling import Block, Tiling
from biomassters.workers.cores import usable_cores
from biomassters.workers.pool import Workers

log = logging.getLogger(__name__)
# What PyTorch's allocators say; on a CPU it raises a plain RuntimeError.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
_NAMED = 3  # failed blocks that the message spells out
_WAITING_WRITES = 2
_Place = tuple[slice, slice]


@dataclass
class Predictor:
    """Networks on their device, and how they are used; cores None: all of the process."""

    networks: Sequence[MonthNetwork]
    options: InferenceOptions
    device: torch.device
    tiling: Tiling
    cores: int | None = None

    def __post_init__(self) -> None:
        self._batch_size = self.options.batch_size  # less once memory has run out
        self._network_s = 0.0
        self._precision = precision_used(
            self.device, self.options.precision, self.networks[0].width
        )

    @classmethod
    def ready(
        cls, networks: Sequence[Any], options: InferenceOptions, tiling: Tiling, cores: int | None
    ) -> "Predictor":
        """With networks from weights files, brought to the device that the options name."""
        device = choose_device(options.device)
        ready = [ready_network(network, options, device) for network in networks]
        return cls(ready, options, device, tiling, cores)

    def predict(self, block: Block, images: WindowImages) -> BlockMap:
        """Map one block, from the images of its extent.

        Raises:
            BadInputError: The network predicts no number, or one chip is too much for memory.
        """
        extent, core = self.tiling.extent(block), self.tiling.core(block)
        seen = images.seen()
        months = seen[(slice(None), *slices_in(core, extent))].sum(axis=0, dtype=np.uint8)
        if not seen.any():
            return BlockMap(block, None, months)
        places = {
            chip: slices_in(self.tiling.chip_window(*chip), extent)
            for chip in self.tiling.chips(block)
        }
        places = {chip: at for chip, at in places.items() if seen[(slice(None), *at)].any()}
        sums = np.zeros((extent.height, extent.width), np.float32)
        self._network_s = 0.0
        predicted = self._predicted(list(places.values()), images, seen)
        for (chip, at), agb in zip(places.items(), predicted, strict=True):
            sums[at] += self.tiling.weight(*chip) * agb
        return BlockMap(block, sums, months, self._network_s, len(places))

    def _predicted(
        self, waiting: list[_Place], images: WindowImages, seen: NDArray[np.bool_]
    ) -> Iterator[NDArray[np.float32]]:
        while waiting:
            batch = waiting[: self._batch_size]
            started = time.perf_counter()
            try:
                agb = self._predict_batch(batch, images, seen)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(len(batch), error)
                continue
            self._network_s += time.perf_counter() - started
            del waiting[: len(batch)]
            yield from agb

    def _halve(self, chips: int, error: BaseException) -> None:
        if chips == 1:
            raise BadInputError(
                f"One chip is too much for the memory ({error}): lower mapping.chip, or take a "
                "device with more."
            ) from error
        self._batch_size = chips // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning(
            "Memory ran out with %d chips (%s); going on with %d.", chips, error, self._batch_size
        )

    def _predict_batch(
        self, places: list[_Place], images: WindowImages, seen: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Mean AGB over views and networks, float32 [B, h, w]."""
        # Months without data in a chip are left out of it, as in training.
        used = [np.flatnonzero(seen[(slice(None), *at)].any(axis=(1, 2))) for at in places]
        cut = {
            sensor: np.concatenate(
                [image[(m, ..., *at)] for m, at in zip(used, places, strict=True)]
            )
            for sensor, image in images.images.items()
        }
        chip_of_month = np.repeat(np.arange(len(places)), [len(months) for months in used])
        there = {sensor: torch.from_numpy(one).to(self.device) for sensor, one in cut.items()}
        owner = torch.from_numpy(chip_of_month).to(self.device)
        with autocast(self.device, self._precision):
            maps = torch.cat(
                [
                    predict_views(
                        network, there, owner, len(places), self.options.views,
                        parts=self.options.cpu_parts,
                        # Stated, so that a block's last chip has the same bits in every process.
                        cores=self.cores or usable_cores(),
                    )
                    for network in self.networks
                ]
            )  # fmt: skip
        if not torch.isfinite(maps).all():
            raise BadInputError(
                "The network predicts NaN or infinite biomass; check that its weights come from a "
                "run that did not diverge, and try inference.precision float32."
            )
        return maps.mean(dim=0).cpu().numpy()


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, and nothing else."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(text in message for text in _OUT_OF_MEMORY)


@dataclass(frozen=True)
class FailedBlock:
    """A block whose images can't be read, the sentence that says why, and the damaged file."""

    block: Block
    reason: str
    path: str


@dataclass
class BlockTask:
    """Maps blocks; picklable, and loads the networks once a process.

    Attributes:
        load_networks: Picklable; gives the networks, on the CPU.
        cores: For the network's arithmetic; None: all that the process may use.
    """

    source: RegionSource
    load_networks: Callable[[], Sequence[Any]]
    tiling: Tiling
    options: InferenceOptions
    reader_threads: int
    cores: int | None = None
    _predictor: Predictor | None = field(default=None, init=False, repr=False)
    # One thread that reads blocks in turn, and those that read its images.
    _readers: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = field(
        default=None, init=False, repr=False
    )

    def __call__(self, block: Block) -> BlockMap | FailedBlock:
        """Map one block, on a worker, which keeps its networks and its threads' open files."""
        return self._finish(block, self._read(block))

    def each(self, blocks: Iterable[Block]) -> Iterator[BlockMap | FailedBlock]:
        """Map blocks in their order; the next one is read while one is predicted."""
        reads = ((block, self._read(block)) for block in blocks)
        try:
            for current, _ in pairwise(chain(reads, [None])):
                assert current is not None
                yield self._finish(*current)
        finally:
            for pool in self._readers or ():
                pool.shutdown(cancel_futures=True)
            self._readers = None

    def _read(self, block: Block) -> Future[WindowImages]:
        if self._readers is None:
            self._readers = (
                ThreadPoolExecutor(1, thread_name_prefix="block reader"),
                ThreadPoolExecutor(self.reader_threads, thread_name_prefix="image reader"),
            )
        in_turn, images = self._readers
        return in_turn.submit(self.source.read, self.tiling.extent(block), images)

    def _finish(self, block: Block, images: Future[WindowImages]) -> BlockMap | FailedBlock:
        try:
            found = images.result()
        except DamagedFileError as error:
            return FailedBlock(block, str(error), str(error.path))
        if self._predictor is None:
            self._predictor = Predictor.ready(
                self.load_networks(), self.options, self.tiling, self.cores
            )
        result = self._predictor.predict(block, found)
        return_freed_memory()
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None, "_readers": None}


@dataclass(frozen=True)
class PredictionTimes:
    """Seconds from the first block to the last and within the networks, and chips predicted."""

    wall_s: float
    network_s: float
    chips: int

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
        folder: Of finished blocks.
        workers: Processes, or None: this one, which reads, predicts and writes at the same time.
        progress: Show a bar on stderr.

    Raises:
        BadInputError: Images of some blocks can't be read; all others are done by then.
    """
    every = task.tiling.blocks()
    blocks = [block for block in every if not folder.has(block)]
    done = len(every) - len(blocks)
    if done:
        log.info("%d of %d blocks are there already.", done, len(every))
    results: Iterable[BlockMap | FailedBlock]
    if workers is None:
        results = task.each(blocks)
    else:
        results = (result for _, result in workers.each(task, blocks))
    failed: list[FailedBlock] = []
    started, network_s, chips = time.perf_counter(), 0.0, 0
    bar = Progress("mapping", len(every), done=done, shown=progress)
    writes: deque[Future[None]] = deque()
    with bar, ThreadPoolExecutor(1, thread_name_prefix="block writer") as writer:
        for result in results:
            if isinstance(result, FailedBlock):
                failed.append(result)
                bar.note(f"{len(failed)} blocks can't be mapped")
            else:
                writes.append(writer.submit(folder.save, result))
                if len(writes) > _WAITING_WRITES:
                    writes.popleft().result()
                network_s, chips = network_s + result.network_s, chips + result.chips
            bar.update()
        for write in writes:
            write.result()
    if failed:
        folder.note_damaged({one.path for one in failed})
        named = " ".join(f"Block {one.block.name}: {one.reason}" for one in failed[:_NAMED])
        more = f" (and {len(failed) - _NAMED} more)" if len(failed) > _NAMED else ""
        raise BadInputError(
            f"{len(failed)} of {len(every)} blocks could not be mapped. {named}{more} All other "
            "blocks are kept: mend the files and run the same command again."
        )
    return PredictionTimes(time.perf_counter() - started, network_s, chips)
