"""Memory of one batch, allocated once and filled again and again.

Fresh memory costs a page fault for every 4 KiB, thousands per chip; that alone would halve
the speed of reading.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from biomassters.chips.bands import MONTH_COUNT, S1, S2
from biomassters.chips.store.reader import StoreSplit
from biomassters.loading.batch import Batch, CopyMark
from biomassters.loading.sampling import Sample


class ReadTask(NamedTuple):
    """One chip-month to read, or a label.

    Attributes:
        number: Number of the batch.
        row: Row of the buffer to fill.
        sample: What to read of the chip.
        month: Which month; None for the label.
    """

    number: int
    row: int
    sample: Sample
    month: int | None


class BatchBuffer:
    """Room for a batch of chips with all their months.

    Args:
        chips: Most chips of a batch.
        height: Pixels that are read of each chip.
        width: Pixels that are read of each chip.
        pin_memory: Whether to lock the memory, for copies that run beside computation.
    """

    def __init__(self, chips: int, height: int, width: int, pin_memory: bool) -> None:
        months = chips * MONTH_COUNT
        size = (height, width)
        self.chips = chips
        self._s1 = _allocate((months, len(S1.bands), *size), torch.int16, pin_memory)
        self._s2 = _allocate((months, len(S2.bands), *size), torch.uint16, pin_memory)
        self._agb = _allocate((chips, *size), torch.float32, pin_memory)
        self._rows_s1, self._rows_s2 = self._s1.numpy(), self._s2.numpy()
        self._rows_agb = self._agb.numpy()
        self._copy_mark = CopyMark()

    def tasks(self, number: int, samples: Sequence[Sample]) -> Iterator[ReadTask]:
        """What must be read for a batch, in the order of the store's files."""
        row = 0
        for chip, sample in enumerate(samples):
            for month in sample.months:
                yield ReadTask(number, row, sample, month)
                row += 1
            yield ReadTask(number, chip, sample, None)

    def fill(self, split: StoreSplit, task: ReadTask) -> None:
        """Do one task; threads may do several of one batch at once."""
        self._copy_mark.wait()
        row, sample = task.row, task.sample
        if task.month is None:
            split.read_agb_into(sample.chip, self._rows_agb[row], sample.top, sample.left)
        else:
            s1, s2 = self._rows_s1[row], self._rows_s2[row]
            split.read_month_into(sample.chip, task.month, s1, s2, sample.top, sample.left)

    def batch(self, split: StoreSplit, samples: Sequence[Sample]) -> Batch:
        """The filled buffer as a batch; its tensors are views of this memory."""
        counts = torch.tensor([len(sample.months) for sample in samples])
        chip_of_month = torch.repeat_interleave(torch.arange(len(samples)), counts)
        months = len(chip_of_month)
        self._copy_mark = CopyMark()
        return Batch(
            self._s1[:months],
            self._s2[:months],
            chip_of_month,
            self._agb[: len(samples)],
            tuple(samples),
            tuple(split.chip_ids[sample.chip] for sample in samples),
            self._copy_mark,
        )


def _allocate(shape: tuple[int, ...], dtype: torch.dtype, pin_memory: bool) -> Tensor:
    if pin_memory:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    # NumPy asks the kernel for huge pages, torch doesn't: a quarter of the time to touch it.
    numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
    return torch.from_numpy(np.empty(shape, numpy_dtype))
