import numpy as np
import pytest
import torch

from biomassters.training.few_chips import AdaptOptions, few_chips_training, recipe_for
from biomassters.training.options import TrainingOptions
from biomassters.training.train import shift_head, train

START = TrainingOptions(start_from_weights="starter", batch_size=6)


def stages(options: TrainingOptions) -> list[tuple[str, int]]:
    return [(one.name, len(options.of_stage(one).folds)) for one in options.active_stages()]


@pytest.mark.parametrize(("chips", "steps"), [(1, 40), (2, 100), (4, 100), (5, 200), (300, 1500)])
def test_more_chips_more_steps(chips, steps):
    assert recipe_for(chips).steps == steps
    options = few_chips_training(START, AdaptOptions(), chips, range(min(chips, 5)))
    taken = options.epochs * (options.crops_per_chip * chips // options.batch_size)
    assert steps <= taken <= 1.2 * steps  # whole crops of every chip
    assert options.learning_rate == recipe_for(chips).learning_rate


def test_each_fold_is_left_out_once_before_all_chips_train():
    options = few_chips_training(START, AdaptOptions(), 3, [0, 2, 4])
    assert stages(options) == [("without_a_fold", 3), ("all_chips", 0)]
    assert {one.start for one in options.active_stages()} == {"starter"}
    alone = few_chips_training(START, AdaptOptions(), 1, [0])
    assert stages(alone) == [("all_chips", 0)]
    asked = few_chips_training(START, AdaptOptions(leave_out=False), 3, [0, 2, 4])
    assert stages(asked) == [("all_chips", 0)]


def test_what_was_asked_for_wins():
    adapt = AdaptOptions(steps=4, learning_rate=0.5)
    options = few_chips_training(START, adapt, 2, [0, 1])
    assert (options.epochs, options.crops_per_chip, options.learning_rate) == (4, 3, 0.5)


def test_the_head_takes_half_of_one_chips_mean_error_and_two_thirds_of_two(
    store, new_small_network
):
    split, limit = store.split("train"), 400.0
    for chips in ([2], [2, 3]):
        network = new_small_network().eval()
        errors = []
        for index in chips:
            chip = split.read_chip(index)
            months = np.flatnonzero(chip.month_mask)
            images = {name: torch.tensor(image[months].astype(np.float32))
                      for name, image in chip.images.items()}  # fmt: skip
            with torch.no_grad():
                agb = network(images, torch.zeros(len(months), dtype=torch.int64))[0, 0].numpy()
            counted = chip.agb_mg_per_ha < limit
            errors.append((chip.agb_mg_per_ha - agb)[counted].mean())
        before = network.segmentation_head.bias.item()
        shift = shift_head(network, split, chips, limit=limit)
        expected = sum(errors) / (len(chips) + 1)
        assert shift == pytest.approx(expected, rel=1e-3)
        assert network.segmentation_head.bias.item() == pytest.approx(before + shift, rel=1e-5)


def test_batch_norm_keeps_its_statistics_where_it_is_to(
    store, new_small_network, small_options, tmp_path
):
    split = store.split("train")

    def statistics(keep: bool) -> tuple[dict, dict]:
        options = small_options(
            keep_batch_norm_statistics=keep,
            crops_per_chip=2,
            start_unbiased=True,
            epochs=1,
            folds=(),
        )
        start = new_small_network().state_dict()
        result = train(
            new_small_network(), split, [0, 1, 2, 3], [], options, tmp_path / str(keep),
            fingerprint=store.fingerprint, initial_state=start,
        )  # fmt: skip
        assert len(result.history) == 1
        names = [name for name in start if "running" in name]
        return {n: start[n] for n in names}, {n: result.last_state[n] for n in names}

    before, after = statistics(keep=True)
    assert all(torch.equal(before[name], after[name]) for name in before)
    before, after = statistics(keep=False)
    assert not any(torch.equal(before[name], after[name]) for name in before)
