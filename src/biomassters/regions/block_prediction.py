"""The chips of one block: which have data, what the network says, blended."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biomassters.errors import BadInputError
from biomassters.inference.device import autocast
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import MonthNetwork, predict_views
from biomassters.regions.block_map import BlockMap
from biomassters.regions.grid import PixelWindow
from biomassters.regions.inputs.source import WindowImages
from biomassters.regions.lattice import Block, Lattice
from biomassters.regions.memory_limits import MemoryLimit, is_out_of_memory
from biomassters.workers.cores import usable_cores


@dataclass
class Predictor:
    """Networks and how they are used.

    Attributes:
        networks: Ready to predict, on the device.
        options: Views, batch size, precision.
        device: Where the networks are.
        lattice: Chips of the region.
        cores: That it may keep busy; None: all that the process may use.
    """

    networks: Sequence[MonthNetwork]
    options: InferenceOptions
    device: torch.device
    lattice: Lattice
    cores: int | None = None
    _limit: MemoryLimit = field(init=False)
    _network_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._limit = MemoryLimit(self.options.batch_size)

    def predict(self, block: Block, images: WindowImages) -> BlockMap:
        """Map one block.

        Args:
            block: Which.
            images: Of its extent.

        Raises:
            BadInputError: The network predicts no number, or one chip is too much for memory.
        """
        extent, core = self.lattice.extent(block), self.lattice.core(block)
        seen = images.seen()
        months = seen[(slice(None), *core.slices_in(extent))].sum(axis=0, dtype=np.uint8)
        if not seen.any():
            return BlockMap(block, None, months)
        sums = np.zeros((2, *extent.shape), np.float32)
        self._network_s = 0.0
        chips = [
            chip for chip in self.lattice.chips(block) if seen[self._place(chip, extent)].any()
        ]
        for chip, agb, spread in self._predicted(chips, images, seen, extent):
            weight = self.lattice.weight(*chip)
            rows, columns = self._place(chip, extent)[1:]
            sums[0, rows, columns] += weight * agb
            sums[1, rows, columns] += weight * spread
        return BlockMap(block, sums, months, self._network_s, len(chips))

    def _place(self, chip: tuple[int, int], extent: PixelWindow) -> tuple[slice, slice, slice]:
        return (slice(None), *self.lattice.chip_window(*chip).slices_in(extent))

    def _predicted(
        self,
        chips: list[tuple[int, int]],
        images: WindowImages,
        seen: NDArray[np.bool_],
        extent: PixelWindow,
    ) -> Iterator[tuple[tuple[int, int], NDArray[np.float32], NDArray[np.float32]]]:
        waiting = list(chips)
        while waiting:
            batch = waiting[: self._limit.batch]
            places = [self._place(chip, extent) for chip in batch]
            started = time.perf_counter()
            try:
                agb, spread = self._predict_batch(places, images, seen)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._limit.exceeded(len(batch), error)
                continue
            self._network_s += time.perf_counter() - started
            del waiting[: len(batch)]
            yield from zip(batch, agb, spread, strict=True)

    def _predict_batch(
        self,
        places: list[tuple[slice, slice, slice]],
        images: WindowImages,
        seen: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """AGB and standard deviation over the views, each float32 [B, h, w]."""
        used = [np.flatnonzero(seen[place].any(axis=(1, 2))) for place in places]
        s1 = np.concatenate(
            [images.s1[(m, ..., *p[1:])] for m, p in zip(used, places, strict=True)]
        )
        s2 = np.concatenate(
            [images.s2[(m, ..., *p[1:])] for m, p in zip(used, places, strict=True)]
        )
        chip_of_month = np.repeat(np.arange(len(places)), [len(months) for months in used])
        x1, x2, owner = (torch.from_numpy(one).to(self.device) for one in (s1, s2, chip_of_month))
        maps = self._views(x1, x2, owner, len(places))
        if not torch.isfinite(maps).all():
            raise BadInputError(
                "The network predicts NaN or infinite biomass; check that its weights come from a "
                "run that did not diverge, and try inference.precision float32."
            )
        spread = maps.std(dim=0, correction=0)
        return maps.mean(dim=0).cpu().numpy(), spread.cpu().numpy()

    def _views(self, s1: Tensor, s2: Tensor, chip_of_month: Tensor, count: int) -> Tensor:
        """AGB as every view of every network sees it, float32 [networks · views, B, h, w]."""
        views = self.options.views
        with autocast(self.device, self.options.precision):
            maps = [
                predict_views(
                    network,
                    s1,
                    s2,
                    chip_of_month,
                    count,
                    views,
                    parts=self.options.cpu_parts,
                    # Stated, so that a block's last chip has the same bits in every process.
                    cores=self.cores or usable_cores(),
                )
                for network in self.networks
            ]
        return torch.cat(maps)
