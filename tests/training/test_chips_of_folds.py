import pandas as pd
import pytest

from biomassters.errors import BadInputError
from biomassters.training.chips_of_folds import chips_of_folds


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
