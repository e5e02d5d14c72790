"""A batch's gradients: of its parts one after another, or side by side on a CPU.

Either way they are those of the whole batch, over all ranks, when its last group has been added.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from biomassters.chips.bands import BAND_NAMES
from biomassters.inference.device import part_threads, threads_inside
from biomassters.network.agb_net import AgbNet
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.shares import Group, Part, parts_at_once

PROBE_SIZE = 64

Predict = Callable[[Tensor, Tensor, int], Tensor]
"""As ``AgbNet.forward_scaled``."""

LossOf = Callable[[Predict, Part], Tensor]
"""The loss of a part's chips, times its weight."""


class Gradients(Protocol):
    """Adds the gradients of a step's parts up, in the order of the parts.

    Attributes:
        threads: torch's own, for the steps' other work.
    """

    threads: int

    def begin(self) -> None:
        """Before the first group of a step."""
        ...

    def add(self, group: Group, loss_of: LossOf) -> Tensor:
        """Learn from a group.

        Returns:
            The sum of its losses, of this rank alone.
        """
        ...


def gradients_of(
    network: AgbNet, options: TrainingOptions, device: torch.device, ranks: Ranks
) -> Gradients:
    """The way that suits a device.

    Args:
        network: On the device, with the same weights on every rank; its ``grad`` is filled.
        options: Of the run.
        device: Where to compute.
        ranks: Those that share each batch.
    """
    if device.type == "cpu":
        chips, accumulation = options.batch_size, options.gradient_accumulation
        parts = parts_at_once(chips, accumulation, options.cpu_parts)
        if parts > 1:
            return SideBySide(network, ranks, -(-parts // ranks.size))
    return OneByOne(network, ranks, options.gradient_accumulation)


class SideBySide:
    """Parts in threads, each on a replica that shares the parameters and has its own buffers.

    Buffers (the running statistics of batch normalization) become the means over the parts, as
    they become means over ranks.

    Args:
        network: See ``gradients_of``.
        ranks: Those that share each batch.
        parts: Of a group, on this rank.
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
        self._used = 0

    def begin(self) -> None:
        """See ``Gradients``."""
        own, *others = self._buffers
        for buffers in others:
            torch._foreach_copy_(buffers, own)
        self._used = 0

    def add(self, group: Group, loss_of: LossOf) -> Tensor:
        """See ``Gradients``."""
        for replica in self._replicas:
            replica.train()

        def learn(place: int) -> _Learnt:
            loss = loss_of(self._replicas[place].forward_scaled, group.parts[place])
            # Not backward(): threads would add to the same grad in the order of their speed.
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            return _Learnt(loss.detach(), gradients)

        learnt = self._threads.run(learn, range(len(group.parts)))
        self._used = max(self._used, len(learnt))
        for parameter, *gradients in zip(
            self._parameters, *(one.gradients for one in learnt), strict=True
        ):
            _add_to(parameter, gradients)
        if group.last:
            self._finish()
        return _in_pairs([one.loss for one in learnt])

    def _finish(self) -> None:
        with torch.no_grad():
            for buffer, *others in zip(*self._buffers[: self._used], strict=True):
                if buffer.is_floating_point() and others:
                    buffer.copy_(_in_pairs([buffer, *others]) / self._used)
        self._ranks.add_up([p.grad for p in self._parameters if p.grad is not None])


class _Learnt(NamedTuple):
    loss: Tensor
    gradients: tuple[Tensor | None, ...]


def _replica(network: AgbNet) -> AgbNet:
    """The same parameters, in modules with buffers of their own."""
    return copy.deepcopy(network, {id(each): each for each in network.parameters()})


def draws_numbers(network: AgbNet) -> bool:
    """Whether a network in training draws random numbers; seen by trying. It stays as it is."""
    twin = _replica(network).train()
    x_MCHW = torch.zeros(2, len(BAND_NAMES), PROBE_SIZE, PROBE_SIZE)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), threads_inside(1):
        before = torch.random.get_rng_state()
        twin.forward_scaled(x_MCHW, torch.arange(2), 2)
        return not torch.equal(before, torch.random.get_rng_state())


def _add_to(parameter: Tensor, gradients: Sequence[Tensor | None]) -> None:
    there = [gradient for gradient in gradients if gradient is not None]
    if not there:
        return
    total = _in_pairs(there)
    if parameter.grad is None:
        # In the parameter's layout, which the fused optimizer takes for granted.
        parameter.grad = torch.empty_like(parameter).copy_(total)
    else:
        parameter.grad += total


def _in_pairs(terms: Sequence[Tensor]) -> Tensor:
    """Their sum, neighbours first: the bits that ranks with half of the terms each come to."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return _in_pairs(terms[:half]) + _in_pairs(terms[half:])


class OneByOne:
    """Parts one after another on the network itself; ranks are joined by DDP.

    Args:
        network: See ``gradients_of``.
        ranks: Those that share each batch.
        accumulation: Parts of a batch; where each rank has one, the graph is the same at every
            step, which spares DDP looking for it.
    """

    def __init__(self, network: AgbNet, ranks: Ranks, accumulation: int) -> None:
        self._network, self._ranks, self.threads = network, ranks, ranks.cores
        self._parallel: DistributedDataParallel | None = None
        self._predict: Predict = network.forward_scaled
        if ranks.size > 1:
            self._parallel = _parallel(network, static_graph=accumulation <= ranks.size)
            self._predict = self._parallel

    def begin(self) -> None:
        """See ``Gradients``."""

    def add(self, group: Group, loss_of: LossOf) -> Tensor:
        """See ``Gradients``."""
        self._network.train()
        losses = []
        for place, part in enumerate(group.parts, 1):
            exchange = group.last and place == len(group.parts)
            with nullcontext() if exchange or not self._parallel else self._parallel.no_sync():
                loss = loss_of(self._predict, part)
                (loss * self._ranks.size).backward()  # DDP takes the mean over ranks
            losses.append(loss.detach())
        return torch.stack(losses).sum()


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
            broadcast_buffers=False,  # averaged instead, see Stepper
            gradient_as_bucket_view=True,
            static_graph=static_graph,
        )
