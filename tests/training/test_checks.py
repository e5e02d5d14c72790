import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.training.checks import check_chips, check_devices, explained_memory_errors
from biomassters.training.options import TrainingOptions


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


def test_exhausted_memory_says_what_to_lower() -> None:
    with (
        pytest.raises(BadInputError, match=r"8 whole chips at a time.*gradient_accumulation"),
        explained_memory_errors(TrainingOptions()),
    ):
        torch.empty(2**58)


def test_other_errors_are_left_alone() -> None:
    with (
        pytest.raises(RuntimeError, match="must match"),
        explained_memory_errors(TrainingOptions()),
    ):
        torch.zeros(2) + torch.zeros(3)
