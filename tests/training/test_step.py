import copy
import math

import pytest
import torch

from biomassters.loading.batches import Batch
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.options import AugmentationOptions
from biomassters.loading.samples import plain_sample
from biomassters.training.losses import masked_rmse
from biomassters.training.options import TrainingOptions
from biomassters.training.shares import Group, Part, StepFeed
from biomassters.training.state import TrainingState
from biomassters.training.step import Stepper, seed_torch, training_precision

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


def step_of(*batches: Batch) -> StepFeed:
    """One step on batches one after another, each weighing as its chips."""
    chips = sum(map(len, batches))
    parts = [Part(b, len(b) / chips, place) for place, b in enumerate(batches)]
    groups = [Group([part], last=part is parts[-1]) for part in parts]
    return StepFeed(chips, tuple(name for b in batches for name in b.chip_ids), groups)


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
        x = twin.scale(batch.s1, batch.s2)
        expected = masked_rmse(twin.forward_scaled(x, batch.chip_of_month)[:, 0], batch.agb)
    before = weights(network)
    state = TrainingState.begin(network, options())
    result = Stepper(network, options(), CPU).take(state, step_of(batch))
    assert result.loss == pytest.approx(expected.item())
    assert not result.skipped
    assert not same(before, weights(network))
    assert all(parameter.grad is None for parameter in network.parameters())


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
