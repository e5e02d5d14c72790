import numpy as np
import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.training.options import TrainingOptions
from biomassters.training.train import (
    check_chips,
    check_devices,
    initialize_head,
)


@pytest.mark.parametrize(
    ("training", "validation", "options", "said"),
    [
        ([], [0, 1], {}, "no chips to train on"),
        (range(10), [], {}, "Fold 0 holds no chips to validate on"),
        (range(5), [9], {"batch_size": 8}, "5 training chips don't fill one batch of 8"),
        (range(10), [11], {"crop": 96}, "training.crop is 96 pixels, but the chips are 64 x 64"),
        (
            range(10),
            [11],
            {"crop": 32, "batch_size": 2, "gradient_accumulation": 2},
            "One chip of 32 pixels at a time",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused(store, training, validation, options, said) -> None:
    with pytest.raises(BadInputError, match=said):
        check_chips(store.split("train"), training, validation, TrainingOptions(**options))


def test_what_can_be_trained_on_passes(store) -> None:
    split = store.split("train")
    check_chips(split, range(10), [11], TrainingOptions())
    check_chips(split, range(10), [11], TrainingOptions(crop=None))
    check_chips(split, range(12), [], TrainingOptions(folds=()))
    check_chips(split, range(5), [11], TrainingOptions(batch_size=8, drop_last=False))


def test_a_split_without_labels_is_refused(store) -> None:
    options = TrainingOptions(batch_size=1, folds=())
    with pytest.raises(BadInputError, match="split test of the chip store has no labels"):
        check_chips(store.split("test"), [0], [], options)


def test_synchronized_normalization_needs_gpus() -> None:
    with pytest.raises(BadInputError, match="needs GPUs, but this run is on cpu: set it to false"):
        check_devices(TrainingOptions(sync_batch_norm=True, device="cpu"))


def test_the_last_layer_has_the_labels_mean_and_spread(store, new_small_network) -> None:
    split = store.split("train")
    agb = np.empty((9, 64, 64), np.float32)
    for chip in range(9):
        split.read_agb_into(chip, agb[chip])
    counted = agb[agb < 400]
    network, fresh = new_small_network(), new_small_network()
    initialize_head(network, split, range(9), limit=400.0)
    assert network.segmentation_head.bias.item() == pytest.approx(counted.mean(), rel=1e-5)
    torch.testing.assert_close(
        network.segmentation_head.weight,
        fresh.segmentation_head.weight * float(counted.std(dtype=np.float64)),
    )
    others = [name for name in fresh.state_dict() if "segmentation_head" not in name]
    assert all(torch.equal(network.state_dict()[n], fresh.state_dict()[n]) for n in others)


def test_labels_that_say_nothing_change_nothing(store, new_small_network) -> None:
    network, fresh = new_small_network(), new_small_network()
    initialize_head(network, store.split("train"), [0], limit=-1.0)
    assert all(torch.equal(network.state_dict()[n], v) for n, v in fresh.state_dict().items())


def test_the_seed_decides_the_weights_and_nothing_else_does(new_small_network) -> None:
    torch.manual_seed(1)
    first = new_small_network(seed=7).state_dict()
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    again = new_small_network(seed=7).state_dict()
    assert torch.equal(torch.rand(1), expected)
    other = new_small_network(seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "encoder.model.conv_stem.weight"
    assert not torch.equal(first[name], other[name])
