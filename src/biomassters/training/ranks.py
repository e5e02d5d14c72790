"""The processes that share a training run, as seen from one of them.

They work on parts of the same batches (``micro_batches.py``) and exchange sums; ``distributed.py``
starts them.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from biomassters.errors import BadInputError
from biomassters.workers.cores import usable_cores

T = TypeVar("T")


class CommonRefusalError(BadInputError):
    """A refusal that every rank raises at the same place, so that starting again is no use."""


class Ranks:
    """This process among those of its run; alone, everything is as if there were no others.

    Its ``rank`` counts from 0; of ``size`` processes, which have a process group if they are
    several, so many are ``here``, on this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, here: int = 1) -> None:
        self.rank, self.size = rank, size
        self.first = rank == 0  # speaks and writes for all
        self.cores = max(1, usable_cores() // here)  # of this machine, its own share

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's items: every ``size``-th."""
        return list(items[self.rank :: self.size])

    def total(self, values: Tensor) -> Tensor:
        """Sum over ranks, element by element, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def add_up(self, tensors: Sequence[Tensor], *, mean: bool = False) -> None:
        """Give every rank the sum, or mean, over ranks of tensors of one type and device."""
        if self.size == 1 or not tensors:
            return
        # One exchange for all of them.
        flat = self.total(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        flat *= 1.0 / self.size if mean else 1.0
        pieces = flat.split([tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return bool(self.total(torch.tensor(int(flag))).item())

    def together(self, work: Callable[[], T]) -> list[T]:
        """Do something on every rank and share the results, in their order, or any refusal.

        ``work`` uses no other rank; its result is pickled.

        Raises:
            BadInputError: ``work`` raised it on some rank; then it is raised on every one.
        """
        if self.size == 1:
            return [work()]
        mine: tuple[T | None, str]
        try:
            mine = work(), ""
        except BadInputError as error:
            mine = None, str(error)
        everybodys: list = [None] * self.size
        dist.all_gather_object(everybodys, mine)
        refusals = [sentence for _, sentence in everybodys if sentence]
        if refusals:
            raise CommonRefusalError(refusals[0])
        return [result for result, _ in everybodys]

    def on_first(self, work: Callable[[], T]) -> T | None:
        """Do something on the first rank alone; every rank gets its result, or its refusal."""
        return self.together(lambda: work() if self.first else None)[0]
