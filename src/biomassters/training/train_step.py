"""One optimizer step: gradients of a batch, a look at whether they are finite, the update.

``Stepper.take`` is the step. The gradients are those of the whole batch, over all ranks, however
it is worked: by ``SideBySide`` (parts in threads, on a CPU) or ``OneByOne`` (a GPU, or a batch too
small for parts). What a step works on is made in ``micro_batches.py``.
"""

import copy
import ctypes
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from biomassters.chips.bands import BAND_NAMES
from biomassters.errors import BadInputError
from biomassters.inference.device import autocast, part_threads, threads_inside
from biomassters.network.agb_net import AgbNet
from biomassters.training.augmentation import augment
from biomassters.training.brightness import brightness_changes, change_brightness
from biomassters.training.losses import LOSSES
from biomassters.training.micro_batches import Group, MicroBatch, Step, parts_at_once
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.state import Position, TrainingState

Predict = Callable[[Tensor, Tensor, int], Tensor]
"""As ``AgbNet.forward_scaled``."""

LossOf = Callable[[Predict, MicroBatch], Tensor]
"""The loss of a part's chips, times its weight."""


class StepResult(NamedTuple):
    """What a step came to."""

    loss: float  # mean over the chips of the whole batch
    skipped: bool  # whether nothing was learnt, because loss or gradient was not finite


class Stepper:
    """Takes the optimizer steps of a run; the network lies on the device."""

    def __init__(
        self,
        network: AgbNet,
        options: TrainingOptions,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self._network, self._options, self._device = network, options, device
        self._ranks, self._loss = ranks or Ranks(), LOSSES[options.loss]
        self._gradients = gradients_of(network, options, device, self._ranks)
        self._precision = training_precision(device, options.precision)
        self._buffers = list(network.buffers())
        self._statistics = [buffer for buffer in self._buffers if buffer.is_floating_point()]
        self._buffers_before = [buffer.clone() for buffer in self._buffers]

    @property
    def threads(self) -> int:
        """Torch's own threads for what is not done part by part."""
        return self._gradients.threads

    def take(self, state: TrainingState, step: Step) -> StepResult:
        """Learn from a batch; where loss or gradient is not finite on one rank, on none."""
        # 1. Gradients of the whole batch; running statistics become the mean over parts and ranks.
        torch._foreach_copy_(self._buffers_before, self._buffers)
        self._network.keeps_statistics = self._frozen(state.position.epoch)
        scale = state.position.loss_scale if self._precision == "float16" else 1.0
        loss_of = partial(self._loss_of, state.position, scale)
        loss = self._gradients.learn(step.groups, loss_of)
        if scale != 1.0:
            loss = loss / scale
            gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, 1.0 / scale)
        self._ranks.add_up(self._statistics, mean=True)

        # 2. Are they finite everywhere? Here alone the processor waits for the device.
        limit = self._options.gradient_clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), limit)
        figures = torch.stack([loss, (~norm.isfinite()).to(loss.dtype)])
        loss_value, not_finite = self._ranks.total(figures).tolist()
        skipped = not_finite > 0 or not math.isfinite(loss_value)

        # 3. Weights and their average move; or running statistics are what they were.
        if skipped:
            torch._foreach_copy_(self._buffers, self._buffers_before)
        else:
            state.optimizer.step()
            if state.averaged is not None:
                state.averaged.update(self._network, state.position.total_steps)
        state.optimizer.zero_grad(set_to_none=True)
        if self._precision == "float16":
            state.position.adapt_loss_scale(overflowed=skipped)
        return StepResult(loss_value, skipped)

    def _frozen(self, epoch: int) -> bool:
        """Whether BatchNorm's statistics are those of before."""
        options = self._options
        frozen = int(options.epochs * options.freeze_batch_norm_share)
        return options.keep_batch_norm_statistics or epoch >= options.epochs - frozen

    def _loss_of(
        self, position: Position, scale: float, predict: Predict, part: MicroBatch
    ) -> Tensor:
        """Scale, augment, predict, compare; the loss times a scale that float16 needs."""
        seed_torch(self._options.seed, position.epoch, position.step, part.number)
        batch, limit = part.batch.to(self._device), self._options.loss_limit_mg_per_ha
        scaler, strength = self._network.scaler, self._options.augmentation.brightness
        changes = brightness_changes(batch.samples, strength, scaler.range) if strength else None

        def scaled(months: slice) -> Tensor:
            x_MCHW = scaler({name: image[months] for name, image in batch.images.items()})
            return change_brightness(x_MCHW, *(c[months] for c in changes)) if changes else x_MCHW

        with torch.no_grad():
            x_MCHW, agb_BHW = augment(
                scaled,
                batch.agb,
                batch.samples,
                loss_limit=limit,
                border=self._options.augmentation.border,
            )
        with autocast(self._device, self._precision):
            prediction = predict(x_MCHW, batch.chip_of_month, len(batch))
        loss_B = self._loss(prediction.squeeze(1), agb_BHW, limit)
        if loss_B.shape != (len(batch),):
            raise BadInputError(
                f"training.loss: {self._options.loss} gives a tensor of shape "
                f"{list(loss_B.shape)} for {len(batch)} chips: let it give one number a chip, of "
                "which the mean is taken."
            )
        # Each part weighs as its share of the chips, so parts add up to the mean over the batch.
        loss = loss_B.mean() * part.weight
        return loss if scale == 1.0 else loss * scale


def training_precision(device: torch.device, precision: str) -> str:
    """What ``auto`` means for training.

    A GPU without bfloat16 trains in float32: float16, whose loss has to be scaled, is asked for.
    """
    if precision != "auto":
        return precision
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_bfloat16 else "float32"


def seed_torch(seed: int, *counts: int) -> None:
    """Seed dropout and stochastic depth as a pure function of seed, epoch, step and part."""
    torch.manual_seed(int(np.random.SeedSequence([seed, *counts]).generate_state(1)[0]))


# ---- gradients


def gradients_of(
    network: AgbNet, options: TrainingOptions, device: torch.device, ranks: Ranks
) -> "SideBySide | OneByOne":
    """The way that suits a device; the network lies on it, with the same weights on every rank."""
    if device.type == "cpu":
        chips, accumulation = options.batch_size, options.gradient_accumulation
        parts = parts_at_once(chips, accumulation, options.cpu_parts)
        if parts > 1:
            return SideBySide(network, ranks, -(-parts // ranks.size))
    return OneByOne(network, ranks, options.gradient_accumulation)


class SideBySide:
    """Parts in threads, each on a replica that shares the parameters and has its own buffers.

    Buffers (the running statistics of batch normalization) become the means over the parts, as
    they become means over ranks. ``parts`` are those of a group on this rank.
    """

    def __init__(self, network: AgbNet, ranks: Ranks, parts: int) -> None:
        self._ranks = ranks
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._replicas = [network, *(_replica(network) for _ in range(parts - 1))]
        self._buffers = [list(replica.buffers()) for replica in self._replicas]
        # torch has one random generator for all threads: a network that draws from it (dropout,
        # stochastic depth) is worked part by part, each seeded, with all cores inside.
        self._threads = part_threads(1 if draws_numbers(network) else parts, ranks.cores)
        self.threads = self._threads.inside

    def learn(self, groups: Iterable[Group], loss_of: LossOf) -> Tensor:
        """Fill ``grad`` with the sum over all parts and ranks; returns this rank's loss."""
        own, *others = self._buffers
        for buffers in others:
            torch._foreach_copy_(buffers, own)
        for replica in self._replicas:
            replica.keeps_statistics = self._replicas[0].keeps_statistics
            replica.train()
        total, used = torch.zeros(()), 0
        for group in groups:
            total += self._learn_group(group, loss_of)
            used = max(used, len(group.parts))
        with torch.no_grad():
            for buffer, *theirs in zip(*self._buffers[:used], strict=True):
                if buffer.is_floating_point() and theirs:
                    buffer.copy_(_sum_in_pairs([buffer, *theirs]) / used)
        self._ranks.add_up([p.grad for p in self._parameters if p.grad is not None])
        return total

    def _learn_group(self, group: Group, loss_of: LossOf) -> Tensor:
        def work(number: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            loss = loss_of(self._replicas[number].forward_scaled, group.parts[number])
            # Not backward(): threads would add to the same grad in the order of their speed.
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            return loss.detach(), gradients

        losses, gradients = zip(*self._threads.run(work, range(len(group.parts))), strict=True)
        for parameter, *terms in zip(self._parameters, *gradients, strict=True):
            _add_to(parameter, [term for term in terms if term is not None])
        return _sum_in_pairs(losses)


def _replica(network: AgbNet) -> AgbNet:
    """The same parameters, in modules with buffers of their own."""
    return copy.deepcopy(network, {id(each): each for each in network.parameters()})


def draws_numbers(network: AgbNet) -> bool:
    """Whether a network in training draws random numbers; seen by trying. It stays as it is."""
    twin = _replica(network).train()
    x_MCHW = torch.zeros(2, len(BAND_NAMES), 64, 64)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), threads_inside(1):
        before = torch.random.get_rng_state()
        twin.forward_scaled(x_MCHW, torch.arange(2), 2)
        return not torch.equal(before, torch.random.get_rng_state())


def _add_to(parameter: Tensor, gradients: Sequence[Tensor]) -> None:
    if not gradients:
        return
    total = _sum_in_pairs(gradients)
    if parameter.grad is None:
        # In the parameter's layout, which the fused optimizer takes for granted.
        parameter.grad = torch.empty_like(parameter).copy_(total)
    else:
        parameter.grad += total


def _sum_in_pairs(terms: Sequence[Tensor]) -> Tensor:
    """Neighbours first: the bits that ranks with half of the terms each come to."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return _sum_in_pairs(terms[:half]) + _sum_in_pairs(terms[half:])


class OneByOne:
    """Parts one after another on the network itself; ranks are joined by DDP."""

    def __init__(self, network: AgbNet, ranks: Ranks, accumulation: int) -> None:
        self._network, self._ranks, self.threads = network, ranks, ranks.cores
        self._parallel: DistributedDataParallel | None = None
        if ranks.size > 1:
            # With one part a rank the graph is the same at every step: DDP needn't look for it.
            self._parallel = _parallel(network, static_graph=accumulation <= ranks.size)

    def learn(self, groups: Iterable[Group], loss_of: LossOf) -> Tensor:
        """Fill ``grad`` with the sum over all parts and ranks; returns this rank's loss."""
        self._network.train()
        predict: Predict = self._parallel or self._network.forward_scaled
        losses = []
        for group in groups:
            for part in group.parts:
                exchange = group.last and part is group.parts[-1]
                with nullcontext() if exchange or not self._parallel else self._parallel.no_sync():
                    loss = loss_of(predict, part)
                    (loss * self._ranks.size).backward()  # DDP takes the mean over ranks
                losses.append(loss.detach())
        return sum(losses[1:], start=losses[0])


class _OfScaled(nn.Module):
    """The forward pass on scaled months, as a module of its own for DDP to wrap."""

    def __init__(self, network: AgbNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_MCHW: Tensor, chip_of_month: Tensor, chip_count: int) -> Tensor:
        return self.network.forward_scaled(x_MCHW, chip_of_month, chip_count)


def _parallel(network: AgbNet, *, static_graph: bool) -> DistributedDataParallel:
    with warnings.catch_warnings():
        # New versions of torch have another name for what old ones know as broadcast_buffers.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        return DistributedDataParallel(
            _OfScaled(network),
            broadcast_buffers=False,  # averaged instead, by the Stepper
            gradient_as_bucket_view=True,
            static_graph=static_graph,
        )


# ---- memory

# From glibc's malloc.h; mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
ALWAYS_KEPT = 2**31 - 1
# Where glibc's own adjustment ends on 64 bits; it can't be switched on again.
USUAL_MMAP_THRESHOLD, USUAL_TRIM_THRESHOLD = 32 * 2**20, 64 * 2**20


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """Within the block memory that a step frees is kept for the next; at its end it goes back.

    glibc hands large blocks back to the kernel as soon as they are freed. A step takes and frees
    gigabytes of activations; got back as fresh pages, they cost a page fault for every 4 KiB.
    Does nothing on another device, or where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if device.type != "cpu" or not hasattr(library, "malloc_trim"):
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, ALWAYS_KEPT)
    library.mallopt(M_TRIM_THRESHOLD, ALWAYS_KEPT)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, USUAL_MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_THRESHOLD)
        library.malloc_trim(0)
