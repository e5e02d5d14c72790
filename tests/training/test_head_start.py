import numpy as np
import pytest
import torch

from biomassters.training.head_start import start_from_labels


def test_the_last_layer_has_the_labels_mean_and_spread(store, new_small_network) -> None:
    split = store.split("train")
    agb = np.empty((9, 64, 64), np.float32)
    for chip in range(9):
        split.read_agb_into(chip, agb[chip])
    counted = agb[agb < 400]
    network, fresh = new_small_network(), new_small_network()
    start_from_labels(network, split, range(9), limit=400.0)
    assert network.segmentation_head.bias.item() == pytest.approx(counted.mean(), rel=1e-5)
    torch.testing.assert_close(
        network.segmentation_head.weight,
        fresh.segmentation_head.weight * float(counted.std(dtype=np.float64)),
    )
    others = [name for name in fresh.state_dict() if "segmentation_head" not in name]
    assert all(torch.equal(network.state_dict()[n], fresh.state_dict()[n]) for n in others)


def test_labels_that_say_nothing_change_nothing(store, new_small_network) -> None:
    network, fresh = new_small_network(), new_small_network()
    start_from_labels(network, store.split("train"), [0], limit=-1.0)
    assert all(torch.equal(network.state_dict()[n], v) for n, v in fresh.state_dict().items())
