import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.loading.samples import plain_sample
from biomassters.training.shares import share_of


def cuts_of(share):
    return [cut for group in share.groups for cut in group]


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
    cuts = [cut for share in shares for cut in cuts_of(share)]
    assert all(cuts_of(share) for share in shares)
    assert [sample for cut in cuts if cut.weight for sample in cut.samples] == batch_of(chips)
    assert sum(cut.weight for cut in cuts) == pytest.approx(1.0)
    assert len({cut.number for cut in cuts}) == len(cuts)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_parts_are_the_same_however_many_ranks_share_them(world_size):
    alone = cuts_of(share_of(batch_of(10), 0, 1, 4))
    shared = [cuts_of(share_of(batch_of(10), rank, world_size, 4)) for rank in range(world_size)]
    assert [cut for cuts in shared for cut in cuts] == alone


def test_a_rank_without_a_chip_joins_in_with_no_weight():
    share = share_of(batch_of(3), 0, 4)
    assert cuts_of(share) == [(batch_of(1), 0.0, 0)]
    assert [cuts_of(share_of(batch_of(3), rank, 4))[0].weight for rank in (1, 2, 3)] == [1 / 3] * 3
