"""How the chips of one step are shared out: to ranks, and to the parts that a rank works in."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from biomassters.loading.batches import Batch
from biomassters.loading.samples import Sample, parts_of


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
        groups: This rank's parts, at least one: those of a group are worked side by side, the
            groups one after another.
    """

    chips: int
    everybodys: Sequence[Sample]
    groups: list[list[Cut]]


class Part(NamedTuple):
    """A part of a batch that has been read.

    Attributes:
        batch: Valid until the next group is asked for.
        weight: Its share of the whole batch's chips; 0 if they are another rank's.
        number: Its place among the parts of all ranks.
    """

    batch: Batch
    weight: float
    number: int


class Group(NamedTuple):
    """Parts that are worked side by side.

    Attributes:
        parts: At least one.
        last: Whether they are this rank's last of the step.
    """

    parts: list[Part]
    last: bool


class StepFeed(NamedTuple):
    """What one optimizer step works on.

    Attributes:
        chips: Chips of the whole batch, over all ranks.
        chip_ids: Their names.
        groups: This rank's parts.
    """

    chips: int
    chip_ids: tuple[str, ...]
    groups: Iterable[Group]


def parts_at_once(chips: int, accumulation: int, wanted: int) -> int:
    """How many parts of a batch are worked side by side.

    Args:
        chips: Of the batch.
        accumulation: Groups of parts that are worked one after another.
        wanted: At most so many; fewer where a part would hold less than two chips, since batch
            normalization looks at one part.
    """
    return max(1, min(wanted, chips // (2 * accumulation)))


def share_of(
    batch: Sequence[Sample], rank: int, world_size: int, accumulation: int = 1, at_once: int = 1
) -> StepShare:
    """Cut a batch into parts and take one rank's.

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
    cuts = [
        Cut(parts[number], len(parts[number]) / len(batch), number)
        for number in range(rank * each, (rank + 1) * each)
        if parts[number]
    ] or [Cut(list(batch[:1]), 0.0, rank * each)]
    beside = -(-at_once // world_size)
    groups = [cuts[first : first + beside] for first in range(0, len(cuts), beside)]
    return StepShare(len(batch), batch, groups)
