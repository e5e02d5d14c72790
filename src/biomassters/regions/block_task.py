"""From a block's name to its part of the map: the work of one process."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biomassters.inference.options import InferenceOptions
from biomassters.io.raster_spec import DamagedFileError
from biomassters.regions.block_map import BlockMap
from biomassters.regions.freed_memory import return_freed_memory
from biomassters.regions.inputs.source import RegionSource, WindowImages
from biomassters.regions.lattice import Block, Lattice
from biomassters.regions.networks import WeightsFiles

if TYPE_CHECKING:  # torch takes seconds to import, and a plan doesn't need it
    from biomassters.regions.block_prediction import Predictor


@dataclass(frozen=True)
class FailedBlock:
    """A block whose images can't be read.

    Attributes:
        block: Which.
        reason: A sentence.
        path: The damaged file.
    """

    block: Block
    reason: str
    path: str


@dataclass
class BlockTask:
    """Maps blocks; picklable, and loads the networks once a process.

    Attributes:
        source: The images.
        weights: The networks.
        lattice: Where chips lie.
        options: How the networks are used.
        reader_threads: Threads that read images.
        cores: For the network's arithmetic; None: all that the process may use.
    """

    source: RegionSource
    weights: WeightsFiles
    lattice: Lattice
    options: InferenceOptions
    reader_threads: int
    cores: int | None = None
    _predictor: "Predictor | None" = field(default=None, init=False, repr=False)
    _pools: "tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None" = field(
        default=None, init=False, repr=False
    )

    def __call__(self, block: Block) -> BlockMap | FailedBlock:
        """Map one block, on a worker that keeps its networks and its threads."""
        if self._pools is None:
            self._pools = self._new_pools()
        return self._finish(block, self._read(self._pools, block))

    def each(self, blocks: Iterable[Block]) -> Iterator[BlockMap | FailedBlock]:
        """Map blocks in their order; the next one is read while one is predicted."""
        with self._reading() as read:
            ahead: tuple[Block, Future[WindowImages]] | None = None
            for block in blocks:
                following = block, read(block)
                if ahead is not None:
                    yield self._finish(*ahead)
                ahead = following
            if ahead is not None:
                yield self._finish(*ahead)

    def _finish(self, block: Block, images: "Future[WindowImages]") -> BlockMap | FailedBlock:
        try:
            found = images.result()
        except DamagedFileError as error:
            return FailedBlock(block, str(error), str(error.path))
        if self._predictor is None:
            self._predictor = self._load()
        result = self._predictor.predict(block, found)
        return_freed_memory()
        return result

    def _load(self) -> "Predictor":
        from biomassters.inference.device import choose_device
        from biomassters.inference.predict import ready_network
        from biomassters.regions.block_prediction import Predictor

        device = choose_device(self.options.device)
        networks = [ready_network(one, self.options, device) for one in self.weights.load()]
        return Predictor(networks, self.options, device, self.lattice, self.cores)

    def _read(
        self, pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor], block: Block
    ) -> "Future[WindowImages]":
        ahead, images = pools
        return ahead.submit(self.source.read, self.lattice.extent(block), images)

    def _new_pools(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        """One thread that reads blocks in turn, and those that read its images."""
        return (
            ThreadPoolExecutor(1, thread_name_prefix="block reader"),
            ThreadPoolExecutor(self.reader_threads, thread_name_prefix="image reader"),
        )

    @contextmanager
    def _reading(self) -> "Iterator[Callable[[Block], Future[WindowImages]]]":
        pools = self._new_pools()
        try:
            yield lambda block: self._read(pools, block)
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None, "_pools": None}
