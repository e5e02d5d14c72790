"""An epoch's batches, in the parts (micro-batches) that they are worked in, read ahead.

``share_of`` decides which rank works on which chips, ``Feed`` reads them. Groups of parts follow
each other (gradient accumulation); on a CPU the parts of a group are worked side by side.
``train_step.py`` makes gradients of them.
"""

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch

from biomassters.chips.store.reader import StoreSplit
from biomassters.loading.batches import Batch, ahead_on_device
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.samples import Sample, batches_of, epoch_samples, parts_of, plain_sample
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks


class Share(NamedTuple):
    """Chips of a part, to be read; ``weight`` and ``number`` as in ``MicroBatch``."""

    samples: list[Sample]
    weight: float
    number: int


class MicroBatch(NamedTuple):
    """A part of a batch."""

    batch: Batch  # valid until the next group is asked for
    weight: float  # its share of the whole batch's chips; 0 if they are another rank's
    number: int  # its place among the parts of all ranks


class Group(NamedTuple):
    """Parts that are worked side by side, at least one; ``last`` of this rank in the step?"""

    parts: list[MicroBatch]
    last: bool


class Step(NamedTuple):
    """What one optimizer step works on."""

    chips: int  # chips of the whole batch, over all ranks
    chip_ids: tuple[str, ...]  # their names
    groups: Iterable[Group]  # this rank's parts


def parts_at_once(chips: int, accumulation: int, wanted: int) -> int:
    """How many parts of a batch are worked side by side: as wanted, but of two chips at least.

    Batch normalization looks at one part.
    """
    return max(1, min(wanted, chips // (2 * accumulation)))


def share_of(
    batch: Sequence[Sample], rank: int, world_size: int, accumulation: int = 1, at_once: int = 1
) -> list[list[Share]]:
    """Cut a step's batch into parts and take one rank's, in groups; at least one part.

    The parts are the same for every number of ranks that divides theirs, so such runs differ in
    nothing but who works on what. A short last batch may leave a rank without a chip: it then
    takes the first chip with weight 0, because every rank has to join in adding up gradients.

    Args:
        batch: Of one step.
        rank: Whose share.
        world_size: Ranks.
        accumulation: Groups of parts that follow each other; each rank has at least a part.
        at_once: Parts of each group, over all ranks, as ``parts_at_once`` allows.
    """
    at_once = parts_at_once(len(batch), accumulation, at_once)
    each = -(-accumulation * at_once // world_size)
    parts = parts_of(batch, each * world_size)
    shares = [
        Share(parts[number], len(parts[number]) / len(batch), number)
        for number in range(rank * each, (rank + 1) * each)
        if parts[number]
    ] or [Share(list(batch[:1]), 0.0, rank * each)]
    beside = -(-at_once // world_size)
    return [shares[first : first + beside] for first in range(0, len(shares), beside)]


class Feed:
    """Training batches of any epoch, from any step on, and the validation chips.

    A rank reads its share alone.

    Attributes:
        steps: Of an epoch.
        chips: Learnt from in an epoch, each as often as it is cropped.
        validation_chips: Held out.
    """

    def __init__(
        self,
        split: StoreSplit,
        training: Sequence[int],
        validation: Sequence[int],
        options: TrainingOptions,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.split, self._ranks = split, ranks or Ranks()
        self._training, self._options, self._device = tuple(training), options, device
        self._months = np.asarray(split.present.any(axis=2))
        held_out = [
            plain_sample(chip, self._months[chip].nonzero()[0].tolist())
            for chip in sorted(validation)
        ]
        self.validation_chips = len(held_out)
        whole = batches_of(held_out, options.validation_batch_size, drop_last=False)
        # Whole batches are dealt out, so a chip is predicted in the same company, bit for bit.
        self._validation = self._ranks.share(whole)
        samples = len(self._training) * options.crops_per_chip
        full, rest = divmod(samples, options.batch_size)
        self.steps = full + bool(rest and not options.drop_last)
        self.chips = min(self.steps * options.batch_size, samples)
        self._loader, self._whole_loader = self._new_loader(options.crop), self._new_loader(None)

    def _new_loader(self, crop: int | None) -> ThreadedLoader:
        return ThreadedLoader(
            self.split,
            [],
            crop=crop,
            threads=self._options.loader_threads,
            prefetch=self._options.loader_prefetch,
            pin_memory=self._device.type == "cuda",
            timeout_s=self._options.loader_timeout_s,
        )

    def batches(self, epoch: int) -> list[list[Sample]]:
        """The samples of each step of an epoch."""
        samples = epoch_samples(
            self._training,
            self.split.chip_ids,
            self._months,
            seed=self._options.seed,
            epoch=epoch,
            options=self._options.augmentation,
            size=(self.split.height, self.split.width),
            crop=self._options.crop,
            crops_per_chip=self._options.crops_per_chip,
        )
        return batches_of(samples, self._options.batch_size, drop_last=self._options.drop_last)

    def next_chip_ids(self, epoch: int, step: int) -> list[str]:
        """Names of the chips of one step; none beyond the epoch's last."""
        batches = self.batches(epoch)[step : step + 1]
        return [name for batch in batches for name in self._names(batch)]

    def _names(self, samples: Sequence[Sample]) -> tuple[str, ...]:
        return tuple(self.split.chip_ids[sample.chip] for sample in samples)

    def read(self, epoch: int, first_step: int) -> Generator[Step, None, None]:
        """Read this rank's share of each step of an epoch (from 0), ahead of its use."""
        ranks, options = self._ranks, self._options
        at_once = options.cpu_parts if self._device.type == "cpu" else 1
        batches = self.batches(epoch)[first_step:]
        shares = [
            share_of(batch, ranks.rank, ranks.size, options.gradient_accumulation, at_once)
            for batch in batches
        ]
        reads = [
            [sample for share in group for sample in share.samples]
            for groups in shares
            for group in groups
        ]
        with closing(self._loader.load(reads)) as flow:
            ready = ahead_on_device(flow, self._device)
            for batch, groups in zip(batches, shares, strict=True):
                yield Step(len(batch), self._names(batch), _read(groups, ready))

    @property
    def wait_s(self) -> float:
        """Seconds that the current pass over the training chips has waited for data."""
        return self._loader.wait_s

    def read_validation(self) -> Generator[Batch, None, None]:
        """This rank's share of the held-out chips, whole and unchanged."""
        return self._whole_loader.load(self._validation)


def _read(groups: Sequence[Sequence[Share]], flow: Iterator[Batch]) -> Iterator[Group]:
    for group in groups:
        batch = next(flow)  # of the whole group: its parts lie one behind the other
        ends = list(itertools.accumulate((len(share.samples) for share in group), initial=0))
        parts = [
            MicroBatch(batch.chips(*between), share.weight, share.number)
            for share, between in zip(group, itertools.pairwise(ends), strict=True)
        ]
        yield Group(parts, last=group is groups[-1])
