from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.fixtures.training import FewChips

from biomassters.chips.chip import Chip
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.training.options import TrainingOptions
from biomassters.training.train import (
    check_chips,
    check_devices,
    initialize_head,
    train,
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


class PartlyLabelled(FewChips):
    """Chips of which a part has no label, or one that the loss leaves out."""

    def __init__(self, side: int, without: float) -> None:
        super().__init__(side)
        self.without = without

    def read_chip(self, chip_id: str) -> Chip:
        chip = super().read_chip(chip_id)
        if chip.agb_mg_per_ha is None:
            return chip
        agb = chip.agb_mg_per_ha.copy()
        first = sum(chip_id.encode()) % 40  # elsewhere in every chip
        agb[first : first + 20, : self.side - 12] = self.without
        return replace(chip, agb_mg_per_ha=agb)


@pytest.mark.slow
def test_no_label_teaches_as_little_as_one_beyond_the_limit(
    tmp_path, new_small_network, small_options
) -> None:
    """Bit for bit the same weights, whether pixels are NaN or outliers that the loss leaves out."""
    results = []
    for number, without in enumerate((np.nan, 5000.0)):
        store = write_store(tmp_path / f"{number}.zarr", PartlyLabelled(64, without))
        results.append(
            train(
                new_small_network(), store.split("train"), range(8), range(8, 12),
                small_options(epochs=1), tmp_path / f"checkpoints{number}",
                fingerprint=store.fingerprint,
            )
        )  # fmt: skip
    partly, outliers = results
    for name, value in partly.last_state.items():
        assert torch.equal(value, outliers.last_state[name]), name
    losses = [result.history["train_loss"].iloc[0] for result in results]
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])
    # The score counts outliers, but no pixel without label.
    assert partly.best_score < 200 < outliers.history["validation_rmse_per_chip_mean"].iloc[0]


def test_each_validation_is_told_and_may_end_the_training(
    store, small_options, new_small_network, tmp_path
) -> None:
    told: list[float] = []

    class EnoughError(Exception):
        """Raised by who is told."""

    def go(folder, on_validation):
        return train(
            new_small_network(), store.split("train"), range(8), [9, 10, 11],
            small_options(epochs=3, validate_every_epochs=2), tmp_path / folder,
            fingerprint="x", on_validation=on_validation,
        )  # fmt: skip

    history = go("whole", told.append).history
    assert told == history["validation_rmse_per_chip_mean"].dropna().tolist()
    assert len(told) == 2

    def stop(rmse: float) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        go("stopped", stop)
    # Nothing of it is lost: the epochs before stand in a checkpoint.
    again = go("stopped", None).history
    assert again["train_loss"].tolist() == history["train_loss"].tolist()
