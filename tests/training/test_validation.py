import math

import numpy as np
import pandas as pd
import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.inference.predict import predict_views
from biomassters.metrics.scores import ScoreAccumulator
from biomassters.training.micro_batches import Feed
from biomassters.training.validation import all_scores, chips_of_folds, validate

CPU = torch.device("cpu")


def score(store, network, options, **changes) -> dict[str, float] | None:
    batches = Feed(store.split("train"), [0], [8, 9, 10], options, CPU).read_validation()
    scores = validate(network, batches, options, CPU, **changes)
    return None if scores is None else all_scores([scores])


def test_scores_worked_by_hand(store, new_small_network, small_options) -> None:
    network = new_small_network()
    torch.nn.init.zeros_(network.segmentation_head.weight)
    torch.nn.init.constant_(network.segmentation_head.bias, 50.0)
    split = store.split("train")
    whole, counted = [], []
    for chip in (8, 9, 10):
        agb = np.empty((64, 64), np.float32)
        split.read_agb_into(chip, agb)
        whole.append(np.sqrt(np.mean((agb - 50.0) ** 2)))
        counted.append(np.sqrt(np.mean((agb[agb < 400] - 50.0) ** 2)))
    found = score(store, network, small_options())
    assert found["rmse_per_chip_mean"] == pytest.approx(np.mean(whole), rel=1e-5)
    assert found["rmse_masked_per_chip_mean"] == pytest.approx(np.mean(counted), rel=1e-5)


def test_negative_biomass_is_clipped_as_in_predictions(
    store, new_small_network, small_options
) -> None:
    network = new_small_network()
    torch.nn.init.zeros_(network.segmentation_head.weight)
    scores = []
    for bias in (0.0, -50.0):
        torch.nn.init.constant_(network.segmentation_head.bias, bias)
        scores.append(score(store, network, small_options()))
    unclipped = [one.pop("rmse_unclipped_per_chip_mean") for one in scores]
    assert scores[0] == scores[1]
    assert unclipped[0] == pytest.approx(scores[0]["rmse_per_chip_mean"], rel=1e-6)
    assert unclipped[1] > unclipped[0] + 30


def test_of_several_view_sets_the_least_counts(store, new_small_network, small_options) -> None:
    """The image alone, with one mirror image, with two …: unclipped, each worked out here."""
    network, views = new_small_network(), ("identity", "left_right", "up_down", "both")
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(network.segmentation_head.weight, std=3.0, generator=generator)
    torch.nn.init.constant_(network.segmentation_head.bias, -5.0)  # some of it is negative
    options = small_options(validation_views=views, validation_score="reference")
    split = store.split("train")
    batches = list(Feed(split, [0], [8, 9, 10], options, CPU).read_validation())
    rmse = np.zeros((4, 3))
    chip = 0
    for batch in batches:
        seen = predict_views(network.eval(), batch.images, batch.chip_of_month, len(batch),
                             views).numpy()  # fmt: skip
        for number in range(len(batch)):
            for count in range(4):
                error = seen[: count + 1, number].mean(0) - batch.agb[number].numpy()
                rmse[count, chip] = np.sqrt(np.mean(error**2))
            chip += 1
    found = score(store, network, options)
    assert found["rmse_unclipped_per_chip_mean"] == pytest.approx(rmse.mean(1).min(), rel=1e-5)
    alone = score(store, network, small_options())["rmse_unclipped_per_chip_mean"]
    assert alone == pytest.approx(rmse[0].mean(), rel=1e-5)
    assert found["rmse_per_chip_mean"] < rmse[3].mean()  # negative biomass set to 0


def test_a_diverged_network_is_said_to_be(store, new_small_network, small_options) -> None:
    network = new_small_network()
    torch.nn.init.constant_(network.segmentation_head.bias, math.nan)
    with pytest.raises(BadInputError, match=r"chip08.*diverged.*learning_rate"):
        score(store, network, small_options())


def test_it_stops_when_asked(store, new_small_network, small_options) -> None:
    assert score(store, new_small_network(), small_options(), stop=lambda: True) is None


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_add_up_in_the_order_of_one(ranks: int) -> None:
    """To the last bit: sums of floats depend on their order. 50 chips on 3 ranks are uneven."""
    random = np.random.default_rng(0)
    batches = [ScoreAccumulator() for _ in range(50)]
    for number, scores in enumerate(batches):
        scores.update(f"{number}", *random.gamma(2.0, 10.0 ** random.uniform(-3, 3), (2, 5, 5)))
    shared = [batches[rank::ranks] for rank in range(ranks)]
    assert all_scores(shared) == all_scores([batches])


def folds(**numbers: int) -> pd.DataFrame:
    return pd.DataFrame({"chip_id": list(numbers), "fold": list(numbers.values())})


FOLDS = folds(chip03=1, chip00=0, chip01=1, chip11=0, chip05=2)


def test_the_held_out_fold_validates_and_the_others_train(store) -> None:
    split = store.split("train")
    training, validation = chips_of_folds(split, FOLDS, 0)
    assert [split.chip_ids[chip] for chip in training] == ["chip01", "chip03", "chip05"]
    assert [split.chip_ids[chip] for chip in validation] == ["chip00", "chip11"]


def test_without_a_held_out_fold_all_train(store) -> None:
    training, validation = chips_of_folds(store.split("train"), FOLDS, None)
    assert (len(training), validation) == (5, [])


def test_a_fold_that_does_not_exist_is_refused(store) -> None:
    with pytest.raises(BadInputError, match=r"folds names 7, but the folds are \[0, 1, 2\]"):
        chips_of_folds(store.split("train"), FOLDS, 7)


def test_folds_of_other_chips_are_refused(store) -> None:
    with pytest.raises(BadInputError, match=r"1 chips that the chip store lacks.*elsewhere"):
        chips_of_folds(store.split("train"), folds(chip00=0, elsewhere=1), 0)
