import copy
import ctypes
import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.inference.device import PartThreads
from biomassters.loading.batches import Batch
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.options import AugmentationOptions
from biomassters.loading.samples import plain_sample
from biomassters.training.brightness import brightness_changes, change_brightness
from biomassters.training.losses import LOSSES, masked_rmse, register
from biomassters.training.micro_batches import Feed, Group, MicroBatch, Step
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.state import Position, TrainingState
from biomassters.training.train_step import (
    OneByOne,
    SideBySide,
    Stepper,
    draws_numbers,
    gradients_of,
    seed_torch,
    training_precision,
)

CPU = torch.device("cpu")
UNVARIED = AugmentationOptions(
    flip=False, quarter_turns=False, rotation_probability=0.0, month_dropout_probability=0.0
)


def options(**changes) -> TrainingOptions:
    return TrainingOptions(
        **{"augmentation": UNVARIED, "learning_rate": 1e-2, "ema_decay": None, **changes}
    )


def batches(store, *chips: list[int]) -> list[Batch]:
    split = store.split("train")
    months = split.present.any(axis=2)
    samples = [[plain_sample(chip, months[chip].nonzero()[0]) for chip in batch] for batch in chips]
    loader = ThreadedLoader(split, samples, crop=32, prefetch=9)
    return [copy.deepcopy(batch) for batch in loader]


def step_of(*batches: Batch) -> Step:
    """One step on batches one after another, each weighing as its chips."""
    chips = sum(map(len, batches))
    parts = [MicroBatch(b, len(b) / chips, place) for place, b in enumerate(batches)]
    groups = [Group([part], last=part is parts[-1]) for part in parts]
    return Step(chips, tuple(name for b in batches for name in b.chip_ids), groups)


def poison(network, calls: set[int]) -> None:
    """Make the images of some calls of the encoder NaN."""
    count = iter(range(1_000_000))

    def hook(module, inputs):
        return (inputs[0] * (math.nan if next(count) in calls else 1.0),)

    network.encoder.register_forward_pre_hook(hook)


def weights(network) -> dict:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(left: dict, right: dict) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_the_loss_is_of_the_batch_and_the_weights_move(store, new_small_network) -> None:
    network, (batch,) = new_small_network(), batches(store, [0, 1])
    with torch.no_grad():
        seed_torch(options().seed, 0, 0, 0)
        twin = copy.deepcopy(network).train()
        x = twin.scale(batch.images)
        agb = twin.forward_scaled(x, batch.chip_of_month)[:, 0]
        expected = masked_rmse(agb, batch.agb).mean()
    before = weights(network)
    state = TrainingState.begin(network, options())
    result = Stepper(network, options(), CPU).take(state, step_of(batch))
    assert result.loss == pytest.approx(expected.item())
    assert not result.skipped
    assert not same(before, weights(network))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_change_of_brightness_reaches_the_network_and_not_the_label(
    store, new_small_network
) -> None:
    (batch,) = batches(store, [0, 1])
    seeded = tuple(replace(one, seed=n) for n, one in enumerate(batch.samples, start=1))
    batch = replace(batch, samples=seeded)
    losses = []
    for strength in (0.0, 1.0):
        network = new_small_network()
        given = options(augmentation=UNVARIED.model_copy(update={"brightness": strength}))
        with torch.no_grad():
            seed_torch(given.seed, 0, 0, 0)
            twin = copy.deepcopy(network).train()
            x = twin.scale(batch.images)
            x = change_brightness(
                x, *brightness_changes(batch.samples, strength, twin.scaler.range)
            )
            agb = twin.forward_scaled(x, batch.chip_of_month)[:, 0]
            expected = masked_rmse(agb, batch.agb).mean()
        state = TrainingState.begin(network, given)
        losses.append(Stepper(network, given, CPU).take(state, step_of(batch)).loss)
        assert losses[-1] == pytest.approx(expected.item(), rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_parts_add_up_to_the_batch(store, new_small_network) -> None:
    # Equal parts, so that batch normalization sees the same statistics in each and in all.
    part, whole = batches(store, [0, 1], [0, 1, 0, 1])
    stepped = []
    for parts in ([whole], [part, copy.deepcopy(part)]):
        network = new_small_network()
        state = TrainingState.begin(network, options(gradient_clip_norm=None))
        result = Stepper(network, options(gradient_clip_norm=None), CPU).take(
            state, step_of(*parts)
        )
        moments = [each["exp_avg"].flatten() for each in state.optimizer.state.values()]
        stepped.append((result.loss, torch.cat(moments)))
    assert stepped[0][0] == pytest.approx(stepped[1][0], rel=1e-5)
    gap = (stepped[0][1] - stepped[1][1]).norm() / stepped[0][1].norm()
    # Deep down, normalization divides by the spread of a few pixels, which magnifies rounding.
    assert gap.item() < 0.05


def test_parts_of_unequal_size_weigh_by_their_chips(store, new_small_network) -> None:
    three, one = batches(store, [0, 1, 2], [3])
    losses = []
    for batch in (three, one):
        network = new_small_network()
        state = TrainingState.begin(network, options())
        losses.append(Stepper(network, options(), CPU).take(state, step_of(batch)).loss)
    network = new_small_network()
    state = TrainingState.begin(network, options())
    both = Stepper(network, options(), CPU).take(state, step_of(three, one)).loss
    assert both == pytest.approx((3 * losses[0] + losses[1]) / 4, rel=1e-5)


def test_a_step_that_is_not_finite_changes_nothing(store, new_small_network) -> None:
    network, (first, second) = new_small_network(), batches(store, [0, 1], [2, 3])
    wished = options(ema_decay=0.9)
    state = TrainingState.begin(network, wished)
    stepper = Stepper(network, wished, CPU)
    poison(network, {1})
    stepper.take(state, step_of(first))
    before = weights(network)
    averaged_before = weights(state.averaged.network)
    optimizer_before = copy.deepcopy(state.optimizer.state_dict()["state"])
    result = stepper.take(state, step_of(second))
    assert result.skipped
    assert same(before, weights(network))  # running statistics too
    assert same(averaged_before, weights(state.averaged.network))
    for key, moments in state.optimizer.state_dict()["state"].items():
        assert same(optimizer_before[key], moments)
    assert not stepper.take(state, step_of(second)).skipped


def test_the_gradient_is_clipped(store, new_small_network) -> None:
    (batch,) = batches(store, [0, 1])
    moments = []
    for limit in (None, 1e-3):
        network = new_small_network()
        state = TrainingState.begin(network, options(gradient_clip_norm=limit))
        Stepper(network, options(gradient_clip_norm=limit), CPU).take(state, step_of(batch))
        squares = sum(s["exp_avg"].square().sum() for s in state.optimizer.state.values())
        moments.append(squares.sqrt().item() / 0.1)  # the first moment is 0.1 · gradient
    assert moments[0] > 1.0
    assert moments[1] == pytest.approx(1e-3, rel=1e-3)


def test_dropout_is_a_function_of_the_place_in_the_run(store, new_small_network) -> None:
    (batch,) = batches(store, [0, 1])
    losses = []
    for step, disturbed in ((0, False), (0, True), (1, False)):
        network = new_small_network()
        network.encoder.register_forward_pre_hook(
            lambda module, inputs: (torch.nn.functional.dropout(inputs[0], 0.5),)
        )
        state = TrainingState.begin(network, options())
        state.position.step = step
        torch.rand(5 if disturbed else 1)
        losses.append(Stepper(network, options(), CPU).take(state, step_of(batch)).loss)
    assert losses[0] == losses[1] != losses[2]


def test_bfloat16_learns_on_the_cpu_too(store, new_small_network) -> None:
    (batch,) = batches(store, [0, 1])
    results = {}
    for precision in ("float32", "bfloat16"):
        network = new_small_network()
        wished = options(precision=precision)
        state = TrainingState.begin(network, wished)
        results[precision] = Stepper(network, wished, CPU).take(state, step_of(batch))
        assert all(p.dtype == torch.float32 for p in network.parameters())
    assert not results["bfloat16"].skipped
    assert results["bfloat16"].loss == pytest.approx(results["float32"].loss, rel=0.02)


def test_auto_is_float32_on_the_cpu() -> None:
    assert training_precision(CPU, "auto") == "float32"
    assert training_precision(CPU, "bfloat16") == "bfloat16"


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
        x = network.scale(part.batch.images)
        agb = predict(x, part.batch.chip_of_month, len(part.batch))
        return (agb[:, 0] - part.batch.agb).square().mean() * part.weight

    ways = {"threads": SideBySide(network, Ranks(), 4), "plain": OneByOne(twin, Ranks(), 1)}
    losses = {}
    for name, way in ways.items():
        losses[name] = way.learn([group], loss_of)
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
    with pytest.raises(MemoryError, match="part 0"):
        way.learn([group], loss_of)


def test_two_cores_take_two_threads():
    options = TrainingOptions()
    assert (options.cpu_parts, PartThreads(options.cpu_parts, 2).count) == (2, 2)


MEBIBYTES = 100  # 25,600 pages

# In a process of its own, whose memory no other test has left in pieces.
MEMORY_SCRIPT = """
import json, resource
from pathlib import Path
import torch
from biomassters.training.train_step import kept_memory

def faults():
    "Page faults of taking memory, writing to it and freeing it."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(100 * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20

found = {"before": resident_mib()}
with kept_memory(torch.device("meta")):
    faults()
    found["elsewhere"] = resident_mib()
with kept_memory(torch.device("cpu")):
    # An aligned block may not fit where one of its size was, until neighbours are free as well.
    found["faults"] = [faults() for _ in range(40)]
    found["inside"] = resident_mib()
found["after"] = resident_mib()
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_freed_memory_is_taken_again_without_faults_until_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)
    assert found["elsewhere"] < found["before"] + 0.1 * MEBIBYTES
    assert found["faults"][-1] < 100
    assert found["inside"] > found["before"] + 0.9 * MEBIBYTES
    assert found["after"] < found["inside"] - 0.9 * MEBIBYTES


@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_batch_in_parts_and_groups_has_the_loss_of_the_whole(
    store, new_small_network, loss
) -> None:
    """Of any loss, in parts of any size; batch normalization fixed, since it sees a part alone."""
    found = []
    for chips in ([[0, 1, 2, 3]], [[0], [1, 2, 3]]):
        network, wished = new_small_network(), options(loss=loss, gradient_clip_norm=None)
        network.train = lambda mode=True, made=network: torch.nn.Module.train(made, False)
        state = TrainingState.begin(network, wished)
        result = Stepper(network, wished, CPU).take(state, step_of(*batches(store, *chips)))
        moments = [each["exp_avg"].flatten() for each in state.optimizer.state.values()]
        found.append((result.loss, torch.cat(moments)))
    (whole, whole_moments), (parts, parts_moments) = found
    assert parts == pytest.approx(whole, rel=1e-5)
    assert ((parts_moments - whole_moments).norm() / whole_moments.norm()).item() < 1e-4


def test_a_loss_of_ones_own_is_learnt_with_by_its_name(store, new_small_network) -> None:
    """All that it takes: a function with ``register``, in any file."""

    @register
    def masked_bias(prediction_BHW, target_BHW, limit):
        counted = target_BHW < limit
        error = (prediction_BHW.float() - target_BHW).where(counted, 0.0)
        return (error.sum(dim=(1, 2)) / counted.sum(dim=(1, 2)).clamp(min=1)).abs()

    try:
        network, wished = new_small_network(), options(loss="masked_bias")
        torch.nn.init.zeros_(network.segmentation_head.weight)
        torch.nn.init.zeros_(network.segmentation_head.bias)
        (batch,) = batches(store, [0, 1])
        counted = [agb[agb < 400].mean().item() for agb in batch.agb]
        before = network.segmentation_head.bias.item()
        result = Stepper(network, wished, CPU).take(
            TrainingState.begin(network, wished), step_of(batch)
        )
        assert result.loss == pytest.approx(sum(counted) / 2, rel=1e-5)
        assert network.segmentation_head.bias.item() > before  # towards the labels
    finally:
        del LOSSES["masked_bias"]


def test_a_loss_that_is_not_one_number_a_chip_is_refused(store, new_small_network) -> None:
    """Its parts would not add up to the batch."""

    @register
    def over_all_pixels(prediction_BHW, target_BHW, limit):
        return (prediction_BHW - target_BHW).abs().mean()

    try:
        network, wished = new_small_network(), options(loss="over_all_pixels")
        (batch,) = batches(store, [0, 1])
        state = TrainingState.begin(network, wished)
        with pytest.raises(BadInputError, match=r"over_all_pixels .* shape \[\] for 2 chips"):
            Stepper(network, wished, CPU).take(state, step_of(batch))
    finally:
        del LOSSES["over_all_pixels"]


def gradient_in(precision: str, scale: float, network, batch: Batch):
    """What the optimizer is given."""
    seen = {}
    state = TrainingState.begin(network, options(precision=precision, gradient_clip_norm=None))
    state.position.loss_scale = scale

    def look(*_: object) -> None:
        seen.update(
            {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )

    state.optimizer.step = look
    stepper = Stepper(network, options(precision=precision, gradient_clip_norm=None), CPU)
    return stepper.take(state, step_of(batch)), state, seen


def test_a_scaled_loss_gives_the_same_loss_and_gradient(store, new_small_network) -> None:
    """In float16 without a scale small gradients are 0; with it they are those of float32."""
    (batch,) = batches(store, [0, 1, 2, 3])
    whole, _, exact = gradient_in("float32", 65536.0, new_small_network(), batch)
    half, state, scaled = gradient_in("float16", 1024.0, new_small_network(), batch)
    assert not half.skipped
    assert half.loss == pytest.approx(whole.loss, rel=0.02)
    assert (state.position.loss_scale, state.position.steps_since_overflow) == (1024.0, 1)
    head = "segmentation_head.weight"
    torch.testing.assert_close(scaled[head], exact[head], rtol=0.1, atol=0.05)
    _, _, tiny = gradient_in("float16", 2.0**-14, new_small_network(), batch)
    lost = sum(int((value == 0).sum()) for value in tiny.values())
    assert lost > sum(int((value == 0).sum()) for value in scaled.values())


def test_an_overflow_skips_the_step_and_halves_the_scale(store, new_small_network) -> None:
    network, (batch,) = new_small_network(), batches(store, [0, 1, 2, 3])
    before = weights(network)
    result, state, seen = gradient_in("float16", 2.0**40, network, batch)
    assert result.skipped
    assert math.isfinite(result.loss)
    assert not seen
    assert same(before, weights(network))
    assert (state.position.loss_scale, state.position.steps_since_overflow) == (2.0**39, 0)


def test_the_scale_follows_torchs_rule(monkeypatch) -> None:
    monkeypatch.setattr("biomassters.training.state.STEPS_TO_DOUBLE", 3)
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, growth_interval=3)
    position = Position()
    for overflowed in [True, False, False, True, *[False] * 7, True, True, False]:
        scaler.scale(parameter.sum())
        parameter.grad = torch.full((1,), math.inf if overflowed else 1.0)
        scaler.step(optimizer)
        scaler.update()
        position.adapt_loss_scale(overflowed=overflowed)
        assert position.loss_scale == scaler.get_scale()


def test_the_scale_never_falls_below_one() -> None:
    position = Position(loss_scale=1.0)
    position.adapt_loss_scale(overflowed=True)
    assert position.loss_scale == 1.0


@pytest.mark.parametrize("cpu_parts", [1, 2])
def test_the_last_epochs_normalize_with_the_running_statistics(
    store, new_small_network, cpu_parts
) -> None:
    chosen = options(epochs=3, freeze_batch_norm_share=0.34, batch_size=4, cpu_parts=cpu_parts)
    network, (left, right) = new_small_network(), batches(store, [0, 1], [2, 3])
    state = TrainingState.begin(network, chosen)
    stepper = Stepper(network, chosen, CPU)
    step = step_of(left, right)
    if cpu_parts > 1:
        parts = [part for group in step.groups for part in group.parts]
        step = step._replace(groups=[Group(parts, last=True)])
    moved = []
    for epoch in range(3):
        state.position.epoch = epoch
        before = weights(network)
        stepper.take(state, step)
        after = weights(network)
        statistics = [name for name in before if "running" in name]
        moved.append(not any(torch.equal(before[name], after[name]) for name in statistics))
        assert moved[-1] or all(torch.equal(before[name], after[name]) for name in statistics)
        assert not same(before, after)
    assert moved == [True, True, False]
