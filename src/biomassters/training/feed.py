"""An epoch's batches: which samples, in which order, and their reading."""

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import cast

import numpy as np
import torch

from biomassters.chips.store.reader import StoreSplit
from biomassters.loading.batches import Batch, ahead_on_device
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.samples import Sample, batches_of, epoch_samples, plain_sample
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.shares import Cut, Group, Part, StepFeed, StepShare, share_of


class Feed:
    """Training batches of any epoch, from any step on, and the validation chips.

    Args:
        split: Of the chip store.
        training: Indices of the chips to learn from.
        validation: Indices of the chips held out.
        options: Of the run.
        device: Where the batches go.
        ranks: The process among those that share the run; it reads its share alone.
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
        self._training, self._options = tuple(training), options
        self._months = np.asarray(split.present.any(axis=2))
        self._validation = [
            plain_sample(chip, self._months[chip].nonzero()[0].tolist())
            for chip in sorted(validation)
        ]
        whole = batches_of(self._validation, options.validation_batch_size, drop_last=False)
        # Whole batches are dealt out, so a chip is predicted in the same company, bit for bit.
        self._validation_share = self._ranks.share(whole)
        self._device, self._pin = device, device.type == "cuda"
        self._loader, self._whole_loader = self._new_loader(options.crop), self._new_loader(None)

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
        )
        return batches_of(samples, self._options.batch_size, drop_last=self._options.drop_last)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        full, rest = divmod(len(self._training), self._options.batch_size)
        return full + bool(rest and not self._options.drop_last)

    @property
    def chips(self) -> int:
        """Chips learnt from in an epoch."""
        return min(self.steps * self._options.batch_size, len(self._training))

    @property
    def validation_chips(self) -> int:
        """Chips held out."""
        return len(self._validation)

    def next_chip_ids(self, epoch: int, step: int) -> list[str]:
        """Names of the chips of one step; none beyond the epoch's last."""
        batches = self.batches(epoch)[step : step + 1]
        return [name for batch in batches for name in self._names(batch)]

    def read(self, epoch: int, first_step: int) -> Generator[StepFeed, None, None]:
        """Read an epoch's batches ahead of their use.

        Args:
            epoch: Counted from 0.
            first_step: Steps before it are left out.

        Yields:
            This rank's share of each step.
        """
        shares = [self._share(batch) for batch in self.batches(epoch)[first_step:]]
        reads = [_samples(group) for share in shares for group in share.groups]
        with closing(_passing(self._loader, reads)) as flow:
            batches = ahead_on_device(flow, self._device)
            for share in shares:
                yield StepFeed(share.chips, self._names(share.everybodys), _groups(share, batches))

    def _share(self, batch: Sequence[Sample]) -> StepShare:
        ranks, options = self._ranks, self._options
        at_once = options.cpu_parts if self._device.type == "cpu" else 1
        return share_of(batch, ranks.rank, ranks.size, options.gradient_accumulation, at_once)

    def _names(self, samples: Sequence[Sample]) -> tuple[str, ...]:
        return tuple(self.split.chip_ids[sample.chip] for sample in samples)

    @property
    def wait_s(self) -> float:
        """Seconds that the current pass over the training chips has waited for data."""
        return self._loader.wait_s

    def read_validation(self) -> Generator[Batch, None, None]:
        """This rank's share of the held-out chips, whole and unchanged."""
        return _passing(self._whole_loader, self._validation_share)

    def _new_loader(self, crop: int | None) -> ThreadedLoader:
        return ThreadedLoader(
            self.split,
            [],
            crop=crop,
            threads=self._options.loader_threads,
            prefetch=self._options.loader_prefetch,
            pin_memory=self._pin,
            timeout_s=self._options.loader_timeout_s,
        )


def _passing(
    loader: ThreadedLoader, batches: Sequence[Sequence[Sample]]
) -> Generator[Batch, None, None]:
    """One pass; to be closed, so that the threads end with it even when an error ends it."""
    return cast(Generator[Batch, None, None], loader.load(batches))


def _samples(cuts: Sequence[Cut]) -> list[Sample]:
    return [sample for cut in cuts for sample in cut.samples]


def _groups(share: StepShare, flow: Iterator[Batch]) -> Iterator[Group]:
    for number, cuts in enumerate(share.groups, 1):
        batch = next(flow)  # of the whole group: its parts lie one behind the other
        ends = list(itertools.accumulate((len(cut.samples) for cut in cuts), initial=0))
        parts = [
            Part(batch.chips(*place), cut.weight, cut.number)
            for cut, place in zip(cuts, itertools.pairwise(ends), strict=True)
        ]
        yield Group(parts, last=number == len(share.groups))
