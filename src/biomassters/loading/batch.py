"""A batch of chips: only the months that are kept, packed one after another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from biomassters.loading.sampling import Sample


@dataclass
class CopyMark:
    """Tells the owner of a batch's memory when a copy to a device has read it.

    Attributes:
        event: Recorded behind the last copy, or None when nothing was copied.
    """

    event: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Block until the copy is done; may be called by any thread."""
        if self.event is not None:
            self.event.synchronize()


@dataclass
class Batch:
    """B chips with M months in all, as integers.

    Attributes:
        s1: int16 [M, 4, h, w], 0.01 dB; −32768 where there is no data.
        s2: uint16 [M, 11, h, w], reflectance × 10,000 and cloud probability; 0 where there
            is no data.
        chip_of_month: int64 [M], the chip (0 to B − 1) that each month belongs to, ascending.
        agb: float32 [B, h, w], Mg/ha; NaN in a split without labels.
        samples: What was read of each chip.
        chip_ids: Name of each chip.
        copy_mark: Between the batch and the loader that lent its memory.
    """

    s1: Tensor
    s2: Tensor
    chip_of_month: Tensor
    agb: Tensor
    samples: tuple[Sample, ...]
    chip_ids: tuple[str, ...]
    copy_mark: CopyMark = field(default_factory=CopyMark, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The batch on a device.

        From pinned memory the copy runs beside the computation; the loader doesn't touch
        the memory again before it is done.

        Args:
            device: Where to.
            non_blocking: Whether to return before a copy to a GPU is done; one from a GPU is
                always waited for, or its reader would find what was there before.

        Returns:
            A batch on the device; this one when it lies there already.
        """
        device = torch.device(device)
        if device == self.s1.device:
            return self
        names = ("s1", "s2", "chip_of_month", "agb")
        non_blocking &= device.type != "cpu"
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in names}
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
            self.copy_mark.event = event
        return replace(self, **moved, copy_mark=CopyMark())

    def chips(self, first: int, last: int) -> Batch:
        """Some of its chips, in the same memory.

        Args:
            first: Number of the first.
            last: Number of the last, plus 1.
        """
        if (first, last) == (0, len(self)):
            return self
        ends = torch.searchsorted(self.chip_of_month, torch.tensor([first, last]))
        months, chips = slice(*ends.tolist()), slice(first, last)
        return replace(
            self,
            s1=self.s1[months],
            s2=self.s2[months],
            chip_of_month=self.chip_of_month[months] - first,
            agb=self.agb[chips],
            samples=self.samples[chips],
            chip_ids=self.chip_ids[chips],
        )
