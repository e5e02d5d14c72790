"""Parts of a batch side by side: the same gradients, whoever is faster."""

import copy

import pytest
import torch

from biomassters.inference.device import PartThreads
from biomassters.training.feed import Feed
from biomassters.training.gradients import OneByOne, SideBySide, draws_numbers, gradients_of
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.state import TrainingState
from biomassters.training.step import Stepper

CPU = torch.device("cpu")


@pytest.fixture
def taken(store, new_small_network, small_options, monkeypatch):
    """Takes steps of a run on so many cores; gives the weights and running statistics."""

    def take(cores: int, steps: int = 3, network=None, **changes) -> dict[str, torch.Tensor]:
        monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
        options = small_options(**{"drop_last": False, "crop": 64, **changes})
        network = network or new_small_network()
        feed = Feed(store.split("train"), range(10), [], options, CPU)
        state, stepper = TrainingState.begin(network, options), Stepper(network, options, CPU)
        for _, step in zip(range(steps), feed.read(0, 0), strict=False):
            stepper.take(state, step)
            state.position.step += 1
        return {name: value.clone() for name, value in network.state_dict().items()}

    return take


def same(left: dict, right: dict) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_bits_depend_on_the_parts_and_not_on_the_threads(taken):
    # batch_size 8: four parts of two chips, by one thread, by two and by four.
    one, two, four = (taken(cores, 1, batch_size=8, cpu_parts=4) for cores in (1, 2, 4))
    assert same(one, two)
    assert same(one, four)
    assert not same(one, taken(1, 1, batch_size=8, cpu_parts=2))


def test_parts_that_follow_each_other_give_the_gradients_of_parts_side_by_side(
    store, new_small_network, small_options
):
    """Against plain backward passes, one part at a time, on the network itself."""
    options = small_options(batch_size=8, cpu_parts=4, crop=64)
    feed = Feed(store.split("train"), range(10), [], options, CPU)
    reading = feed.read(0, 0)
    (group,) = next(reading).groups
    network, twin = new_small_network(), new_small_network()

    def loss_of(predict, part):
        x = network.scale(part.batch.s1, part.batch.s2)
        agb = predict(x, part.batch.chip_of_month, len(part.batch))
        return (agb[:, 0] - part.batch.agb).square().mean() * part.weight

    ways = {"threads": SideBySide(network, Ranks(), 4), "plain": OneByOne(twin, Ranks(), 1)}
    losses = {}
    for name, way in ways.items():
        way.begin()
        losses[name] = way.add(group, loss_of)
    torch.testing.assert_close(losses["threads"], losses["plain"])
    statistics = []
    for part in group.parts:  # each starts from what the network had
        alone = new_small_network().train()
        with torch.no_grad():
            loss_of(alone.forward_scaled, part)
        statistics.append([b for b in alone.buffers() if b.is_floating_point()])
    for mine, plain in zip(network.parameters(), twin.parameters(), strict=True):
        if plain.grad is None:
            assert mine.grad is None
        else:
            assert mine.grad.stride() == mine.stride()
            torch.testing.assert_close(mine.grad, plain.grad, rtol=1e-3, atol=1e-5)
    for mine, *theirs in zip(
        (b for b in network.buffers() if b.is_floating_point()), *statistics, strict=True
    ):
        torch.testing.assert_close(mine, torch.stack(theirs).mean(0), rtol=1e-4, atol=1e-5)


def test_a_part_holds_at_least_two_chips(store, new_small_network, small_options):
    network = new_small_network()

    def way(**changes):
        return gradients_of(network, small_options(**changes), CPU, Ranks())

    assert isinstance(way(batch_size=8), SideBySide)
    assert isinstance(way(batch_size=3), OneByOne)
    assert isinstance(way(batch_size=8, gradient_accumulation=4), OneByOne)
    assert isinstance(way(batch_size=8, cpu_parts=1), OneByOne)
    options = small_options(batch_size=4, cpu_parts=4, drop_last=False)
    feed = Feed(store.split("train"), range(5), [], options, CPU)
    sizes = [
        [len(part.batch) for group in step.groups for part in group.parts]
        for step in feed.read(0, 0)
    ]
    assert sizes == [[2, 2], [1]]


def test_dropout_is_seen_and_depends_on_no_thread(taken, new_small_network):
    def network():
        made = new_small_network()
        made.encoder.register_forward_pre_hook(
            lambda module, inputs: (torch.nn.functional.dropout(inputs[0], 0.3),)
        )
        return made

    before = torch.random.get_rng_state()
    assert draws_numbers(network())
    assert torch.equal(before, torch.random.get_rng_state())
    plain = new_small_network()
    unchanged = copy.deepcopy(plain.state_dict())
    assert not draws_numbers(plain)
    assert same(unchanged, plain.state_dict())
    first, again = (taken(1, 1, network(), batch_size=8) for _ in range(2))
    assert same(first, again)
    way = SideBySide(network(), Ranks(), 2)
    assert way._threads.count == 1


def test_a_part_that_fails_ends_the_step(new_small_network, store, small_options):
    options = small_options(batch_size=8)
    feed = Feed(store.split("train"), range(10), [], options, CPU)
    reading = feed.read(0, 0)
    (group,) = next(reading).groups

    def loss_of(predict, part):
        raise MemoryError(f"part {part.number}")

    way = SideBySide(new_small_network(), Ranks(), 2)
    way.begin()
    with pytest.raises(MemoryError, match="part 0"):
        way.add(group, loss_of)


def test_two_cores_take_two_threads():
    options = TrainingOptions()
    assert (options.cpu_parts, PartThreads(options.cpu_parts, 2).count) == (2, 2)
