"""How the chips of one step are shared out: to ranks, and to the parts that a rank works in."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from biomassters.training.batch import Batch
from biomassters.training.sampling import Sample, parts_of


class Cut(NamedTuple):
    """One part of a batch.

    Attributes:
        samples: Its chips, at least one.
        weight: Its share of the batch's chips.
        number: Its place among the parts of all ranks.
    """

    samples: list[Sample]
    weight: float
    number: int


class StepShare(NamedTuple):
    """What one rank does of a step.

    Attributes:
        chips: Of the whole batch.
        everybodys: The whole batch.
        cuts: This rank's parts, at least one.
    """

    chips: int
    everybodys: Sequence[Sample]
    cuts: list[Cut]


class Part(NamedTuple):
    """A part of a batch that has been read.

    Attributes:
        batch: Valid until the next part is asked for.
        weight: Its share of the whole batch's chips; 0 if they are another rank's.
        number: Its place among the parts of all ranks.
        last: Whether it is this rank's last of the step.
    """

    batch: Batch
    weight: float
    number: int
    last: bool


class StepFeed(NamedTuple):
    """What one optimizer step works on.

    Attributes:
        chips: Chips of the whole batch, over all ranks.
        chip_ids: Their names.
        parts: This rank's.
    """

    chips: int
    chip_ids: tuple[str, ...]
    parts: Iterable[Part]


def share_of(
    batch: Sequence[Sample], rank: int, world_size: int, accumulation: int = 1
) -> StepShare:
    """Cut a batch into parts and take one rank's.

    The parts are the same for every number of ranks that divides ``accumulation``, so such runs
    differ in nothing but who works on what. A short last batch may leave a rank without a chip:
    it then takes the first chip with weight 0, because every rank has to join in adding up
    gradients.

    Args:
        batch: Of one step.
        rank: Whose share.
        world_size: Ranks.
        accumulation: Parts wanted; each rank has at least one.
    """
    each = -(-accumulation // world_size)
    parts = parts_of(batch, each * world_size)
    cuts = [
        Cut(parts[number], len(parts[number]) / len(batch), number)
        for number in range(rank * each, (rank + 1) * each)
        if parts[number]
    ]
    return StepShare(len(batch), batch, cuts or [Cut(list(batch[:1]), 0.0, rank * each)])
