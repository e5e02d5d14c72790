"""Batches of packed months, read by threads straight into reused memory.

Worker processes would have to hand every array over; threads only share it. The reads and
the decoding leave Python's lock alone, so a few threads keep as many cores busy.
"""

import time
from collections.abc import Iterator, Sequence

from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.loading.batch import Batch
from biomassters.loading.batch_buffer import BatchBuffer
from biomassters.loading.reading import ReadingThreads
from biomassters.loading.sampling import Sample


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

    def load(self, batches: Sequence[Sequence[Sample]]) -> Iterator[Batch]:
        """Read other batches with the same memory.

        Args:
            batches: Samples of each batch.

        Yields:
            The batches, in order.

        Raises:
            BadInputError: A chip can't be read, takes longer than the timeout, or a thread ended.
        """
        self.wait_s = 0.0
        if not batches:
            return
        # A second iterator, or one after a thread that never came back, finds no ring here
        # and makes its own.
        ring, self._ring = self._ring, []
        ring = self._fitting(ring, batches)
        reading = ReadingThreads(self._split, self._threads, self._timeout_s)
        try:
            yield from self._in_turn(reading, ring, batches)
        finally:
            if reading.leave():
                self._ring = ring

    def _fitting(
        self, ring: list[BatchBuffer], batches: Sequence[Sequence[Sample]]
    ) -> list[BatchBuffer]:
        """The ring, new when there is none or its buffers are too small."""
        chips = max(map(len, batches))
        count = min(self._prefetch + 2, len(batches))
        if ring and ring[0].chips >= chips:
            chips = ring[0].chips
        else:
            ring = []
        missing = range(count - len(ring))
        return [*ring, *(BatchBuffer(chips, *self._size, self._pin_memory) for _ in missing)]

    def _in_turn(
        self,
        reading: ReadingThreads,
        ring: list[BatchBuffer],
        batches: Sequence[Sequence[Sample]],
    ) -> Iterator[Batch]:
        ahead = min(len(ring), len(batches))
        for number in range(ahead):
            reading.submit(number, ring[number], batches[number])
        for number, samples in enumerate(batches):
            start = time.perf_counter()
            reading.wait_for(number)
            self.wait_s += time.perf_counter() - start
            yield ring[number % len(ring)].batch(self._split, samples)
            if number + len(ring) < len(batches):
                later = number + len(ring)
                reading.submit(later, ring[later % len(ring)], batches[later])
