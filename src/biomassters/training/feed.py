"""An epoch's batches: which samples, in which order, and their reading."""

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple, cast

import numpy as np
import torch

from biomassters.chips.store_reader import StoreSplit
from biomassters.training.batch import Batch
from biomassters.training.loader import ThreadedLoader
from biomassters.training.options import TrainingOptions
from biomassters.training.sampling import (
    Sample,
    batches_of,
    epoch_samples,
    parts_of,
    plain_sample,
)


class StepFeed(NamedTuple):
    """What one optimizer step works on.

    Attributes:
        chips: Chips of the whole batch.
        parts: The batch in parts, each valid until the next is asked for.
    """

    chips: int
    parts: Iterator[Batch]


class Feed:
    """Training batches of any epoch, from any step on, and the validation chips.

    Args:
        split: Of the chip store.
        training: Indices of the chips to learn from.
        validation: Indices of the chips held out.
        options: Of the run.
        device: Where the batches go.
    """

    def __init__(
        self,
        split: StoreSplit,
        training: Sequence[int],
        validation: Sequence[int],
        options: TrainingOptions,
        device: torch.device,
    ) -> None:
        self.split = split
        self._training, self._options = tuple(training), options
        self._months = np.asarray(split.present.any(axis=2))
        self._validation = [
            plain_sample(chip, self._months[chip].nonzero()[0].tolist())
            for chip in sorted(validation)
        ]
        self._pin = device.type == "cuda"
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
        return [self.split.chip_ids[sample.chip] for batch in batches for sample in batch]

    def read(self, epoch: int, first_step: int) -> Generator[StepFeed, None, None]:
        """Read an epoch's batches ahead of their use.

        Args:
            epoch: Counted from 0.
            first_step: Steps before it are left out.
        """
        cut = [
            parts_of(batch, self._options.gradient_accumulation)
            for batch in self.batches(epoch)[first_step:]
        ]
        with closing(_passing(self._loader, list(itertools.chain(*cut)))) as flow:
            for parts in cut:
                yield StepFeed(sum(map(len, parts)), itertools.islice(flow, len(parts)))

    @property
    def wait_s(self) -> float:
        """Seconds that the current pass over the training chips has waited for data."""
        return self._loader.wait_s

    def read_validation(self) -> Generator[Batch, None, None]:
        """Every held-out chip once, whole and unchanged."""
        size = self._options.validation_batch_size
        return _passing(self._whole_loader, batches_of(self._validation, size, drop_last=False))

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
