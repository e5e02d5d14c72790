from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomassters.loading.samples import plain_sample
from biomassters.training.micro_batches import Feed, MicroBatch, share_of
from biomassters.training.ranks import Ranks


def feed(store, options) -> Feed:
    return Feed(store.split("train"), range(10), [10, 11], options, torch.device("cpu"))


def read_parts(step) -> Iterator[MicroBatch]:
    """A step's parts, each while its memory holds it."""
    return (part for group in step.groups for part in group.parts)


def names_in(step) -> list[str]:
    return [name for part in read_parts(step) for name in part.batch.chip_ids]


def test_an_epoch_can_be_read_from_any_step_on(store, small_options) -> None:
    made = feed(store, small_options(batch_size=3))
    assert (made.steps, made.chips, made.validation_chips) == (3, 9, 2)
    names = [
        [id_ for part in read_parts(step) for id_ in part.batch.chip_ids]
        for step in made.read(4, 0)
    ]
    assert names == [made.next_chip_ids(4, step) for step in range(3)]
    later = [
        [id_ for part in read_parts(step) for id_ in part.batch.chip_ids]
        for step in made.read(4, 2)
    ]
    assert later == names[2:]
    assert made.next_chip_ids(4, 3) == []
    assert list(made.read(4, 3)) == []


def test_parts_make_up_their_step(store, small_options) -> None:
    options = small_options(batch_size=4, gradient_accumulation=2, drop_last=False)
    made = feed(store, options)
    assert (made.steps, made.chips) == (3, 10)
    for number, step in enumerate(made.read(0, 0)):
        sizes, names = [], []
        for part in read_parts(step):
            sizes.append(len(part.batch))
            names += part.batch.chip_ids
            assert part.weight == len(part.batch) / step.chips
        assert sizes == ([2, 2] if number < 2 else [1, 1])
        assert step.chips == sum(sizes)
        assert names == list(step.chip_ids) == made.next_chip_ids(0, number)


def test_a_step_left_early_does_not_disturb_the_next_epoch(store, small_options) -> None:
    made = feed(store, small_options(batch_size=3))
    reading = made.read(0, 0)
    next(next(reading).groups)
    reading.close()
    assert sum(len(part.batch) for step in made.read(1, 0) for part in read_parts(step)) == 9


def test_validation_chips_are_whole_unchanged_and_come_once(store, small_options) -> None:
    split = store.split("train")
    made = Feed(split, [0], [11, 3, 7], small_options(validation_batch_size=2), torch.device("cpu"))
    seen = []
    for batch in made.read_validation():
        assert batch.agb.shape[1:] == (64, 64)
        seen += batch.samples
    assert [sample.chip for sample in seen] == [3, 7, 11]
    for sample in seen:
        assert list(sample.months) == split.present[sample.chip].any(axis=1).nonzero()[0].tolist()
        assert (sample.flip, sample.quarter_turns, sample.rotation_deg) == (False, 0, 0.0)


def test_ranks_share_the_chips_and_validate_each_once(store, small_options) -> None:
    options = small_options(batch_size=5, world_size=4, drop_last=False, validation_batch_size=1)
    split, device = store.split("train"), torch.device("cpu")
    feeds = [
        Feed(split, range(6), range(5, 12), options, device, Ranks(rank, 4)) for rank in range(4)
    ]
    shares = [[sample.chip for batch in f.read_validation() for sample in batch.samples]
              for f in feeds]  # fmt: skip
    assert sorted(map(len, shares)) == [1, 2, 2, 2]
    assert sorted(chip for share in shares for chip in share) == list(range(5, 12))
    for step in zip(*(f.read(0, 0) for f in feeds), strict=True):
        weighed = [
            (part.weight, part.batch.chip_ids) for one in step for part in list(read_parts(one))
        ]
        assert len(weighed) == 4  # nobody is left without work
        names = [name for weight, ids in weighed if weight for name in ids]
        assert names == list(step[0].chip_ids)
        assert sum(weight for weight, _ in weighed) == 1.0


def parts_of(groups):
    return [part for group in groups for part in group]


def batch_of(count: int):
    return [plain_sample(chip, [0]) for chip in range(count)]


@given(
    chips=st.integers(1, 40),
    world_size=st.integers(1, 9),
    accumulation=st.integers(1, 9),
)
def test_every_chip_is_worked_on_once_and_every_rank_works(chips, world_size, accumulation):
    shares = [share_of(batch_of(chips), rank, world_size, accumulation)
              for rank in range(world_size)]  # fmt: skip
    parts = [part for share in shares for part in parts_of(share)]
    assert all(parts_of(share) for share in shares)
    assert [sample for part in parts if part.weight for sample in part.samples] == batch_of(chips)
    assert sum(part.weight for part in parts) == pytest.approx(1.0)
    assert len({part.number for part in parts}) == len(parts)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_parts_are_the_same_however_many_ranks_share_them(world_size):
    alone = parts_of(share_of(batch_of(10), 0, 1, 4))
    shared = [parts_of(share_of(batch_of(10), rank, world_size, 4)) for rank in range(world_size)]
    assert [part for parts in shared for part in parts] == alone


def test_a_rank_without_a_chip_joins_in_with_no_weight():
    share = share_of(batch_of(3), 0, 4)
    assert parts_of(share) == [(batch_of(1), 0.0, 0)]
    assert [parts_of(share_of(batch_of(3), rank, 4))[0].weight for rank in (1, 2, 3)] == [1 / 3] * 3
