"""A batch of chips: only the months that are kept, packed one after another.

``BatchBuffer`` is the memory that a batch is read into, ``ahead_on_device`` what copies it to a
GPU. Next: ``loader``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.chips.store.reader import StoreSplit
from biomassters.loading.samples import Sample


@dataclass
class CopyMark:
    """Tells the owner of a batch's memory when a copy to a device has read it."""

    event: torch.cuda.Event | None = None  # recorded behind the last copy

    def wait(self) -> None:
        """Block until the copy is done; may be called by any thread."""
        if self.event is not None:
            self.event.synchronize()


@dataclass
class Batch:
    """B chips with M months in all, as integers.

    Attributes:
        images: By sensor [M, bands, h, w]: ``"s1"`` int16, 0.01 dB, −32768 where there is no
            data; ``"s2"`` uint16, reflectance × 10,000 and cloud probability, 0 where there is
            no data.
        chip_of_month: int64 [M], the chip (0 to B − 1) that each month belongs to, ascending.
        agb: float32 [B, h, w], Mg/ha; NaN in a split without labels.
        samples: What was read of each chip.
        chip_ids: Name of each chip.
        copy_mark: Between the batch and the loader that lent its memory.
    """

    images: Mapping[str, Tensor]
    chip_of_month: Tensor
    agb: Tensor
    samples: tuple[Sample, ...]
    chip_ids: tuple[str, ...]
    copy_mark: CopyMark = field(default_factory=CopyMark, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The batch on a device; this one when it lies there already.

        From pinned memory the copy runs beside the computation; the loader doesn't touch
        the memory again before it is done. One to a GPU need not be waited for (``non_blocking``);
        one from a GPU always is, or its reader would find what was there before.
        """
        device = torch.device(device)
        if device == self.agb.device:
            return self
        move = partial(Tensor.to, device=device, non_blocking=non_blocking & (device.type != "cpu"))
        moved = replace(
            self,
            images={name: move(image) for name, image in self.images.items()},
            chip_of_month=move(self.chip_of_month),
            agb=move(self.agb),
            copy_mark=CopyMark(),
        )
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
            self.copy_mark.event = event
        return moved

    def chips(self, first: int, last: int) -> Batch:
        """Some of its chips, in the same memory: from number ``first`` to before ``last``."""
        if (first, last) == (0, len(self)):
            return self
        ends = torch.searchsorted(self.chip_of_month, torch.tensor([first, last]))
        months, chips = slice(*ends.tolist()), slice(first, last)
        return replace(
            self,
            images={name: image[months] for name, image in self.images.items()},
            chip_of_month=self.chip_of_month[months] - first,
            agb=self.agb[chips],
            samples=self.samples[chips],
            chip_ids=self.chip_ids[chips],
        )


class ReadTask(NamedTuple):
    """One chip-month to read, or a label."""

    number: int  # of the batch
    row: int  # of the buffer
    sample: Sample
    month: int | None  # None: the label


class BatchBuffer:
    """Room for a batch of chips with all their months, allocated once and filled again and again.

    Fresh memory costs a page fault for every 4 KiB, thousands per chip; that alone would halve
    the speed of reading.

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
        self._images = {
            sensor.name: _allocate(
                (months, len(sensor.bands), *size), sensor.packed_dtype, pin_memory
            )
            for sensor in SENSORS
        }
        self._agb = _allocate((chips, *size), np.dtype(np.float32), pin_memory)
        self._rows = {name: image.numpy() for name, image in self._images.items()}
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
            out = {name: rows[row] for name, rows in self._rows.items()}
            split.read_month_into(sample.chip, task.month, out, sample.top, sample.left)

    def batch(self, split: StoreSplit, samples: Sequence[Sample]) -> Batch:
        """The filled buffer as a batch; its tensors are views of this memory."""
        counts = torch.tensor([len(sample.months) for sample in samples])
        chip_of_month = torch.repeat_interleave(torch.arange(len(samples)), counts)
        months = len(chip_of_month)
        self._copy_mark = CopyMark()
        return Batch(
            {name: image[:months] for name, image in self._images.items()},
            chip_of_month,
            self._agb[: len(samples)],
            tuple(samples),
            tuple(split.chip_ids[sample.chip] for sample in samples),
            self._copy_mark,
        )


def _allocate(shape: tuple[int, ...], dtype: np.dtype, pin_memory: bool) -> Tensor:
    if pin_memory:
        torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
    # NumPy asks the kernel for huge pages, torch doesn't: a quarter of the time to touch it.
    return torch.from_numpy(np.empty(shape, dtype))


def ahead_on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a GPU, one copied ahead on a stream of its own; elsewhere as they come.

    From pinned memory a copy needs no processor, and on its own stream it doesn't queue behind
    the computation. The loader waits for a copy before it fills that memory again.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)
    ahead: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = batch.to(device)
        if ahead is not None:
            yield _arrived(ahead, stream, device)
        ahead = copied
    if ahead is not None:
        yield _arrived(ahead, stream, device)


def _arrived(batch: Batch, stream: torch.cuda.Stream, device: torch.device) -> Batch:
    """Let the computation wait for the copy, and the memory live as long as the computation."""
    computation = torch.cuda.current_stream(device)
    computation.wait_stream(stream)
    for tensor in (*batch.images.values(), batch.chip_of_month, batch.agb):
        tensor.record_stream(computation)
    return batch
