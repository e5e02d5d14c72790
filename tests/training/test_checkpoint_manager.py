import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.loading.options import AugmentationOptions
from biomassters.training.checkpoint_manager import check_same, run_identity
from biomassters.training.options import TrainingOptions

STATE = {"weight": torch.zeros(2, 3)}


def describe(options: TrainingOptions | None = None, state=STATE, **changes) -> dict:
    given = {"fingerprint": "f", "training_ids": ["a", "b"], "validation_ids": ["c"], **changes}
    return run_identity(options or TrainingOptions(), state, **given)


def test_the_same_is_continued_whatever_the_values_of_the_weights() -> None:
    check_same(describe(), describe(state={"weight": torch.ones(2, 3)}), "folder")
    check_same(describe(), describe(training_ids=["b", "a"]), "folder")


def test_free_options_may_differ() -> None:
    other = TrainingOptions(
        loader_threads=7,
        loader_prefetch=9,
        checkpoint_every_minutes=1,
        checkpoint_every_epochs=5,
        device="cpu",
        restart=True,
        bad_steps_allowed=0,
    )
    check_same(describe(), describe(other), "folder")


def test_every_other_option_is_named_with_both_values() -> None:
    other = TrainingOptions(
        learning_rate=5e-4, crop=96, augmentation=AugmentationOptions(month_drop_rate=0.1)
    )
    with pytest.raises(BadInputError) as refusal:
        check_same(describe(), describe(other), "the/folder")
    for said in (
        "the/folder",
        "training.learning_rate was 0.005, is 0.0005",
        "training.crop was None, is 96",
        "training.augmentation.month_drop_rate was 0.3, is 0.1",
        "training.restart=true",
    ):
        assert said in str(refusal.value)
    assert "epochs" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fingerprint": "g"}, "another chip store"),
        ({"training_ids": ["a"]}, "other training chips"),
        ({"validation_ids": ["d"]}, "other validation chips"),
        ({"state": {"weight": torch.zeros(3, 2)}}, "other network layers"),
        ({"initial_state": {"weight": torch.ones(1)}}, "other initial weights"),
    ],
)
def test_other_data_or_network_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(BadInputError, match=said) as refusal:
        check_same(describe(), describe(**changes), "folder")
    assert "training.restart=true" in str(refusal.value)


def test_an_option_that_was_unknown_then_is_named() -> None:
    begun = describe()
    del begun["options"]["ema_decay"]
    with pytest.raises(BadInputError, match=r"ema_decay was unknown, is 0\.95"):
        check_same(begun, describe(), "folder")


def test_a_run_of_an_earlier_version_goes_on_where_it_did_the_same() -> None:
    begun = describe()
    for name in ("validation_score", "validation_precision"):
        del begun["options"][name]
    del begun["options"]["augmentation"]["border"]
    check_same(begun, describe(), "folder")
    reflected = TrainingOptions(augmentation={"border": "reflect"})
    with pytest.raises(BadInputError, match=r"augmentation\.border was symmetric, is reflect"):
        check_same(begun, describe(reflected), "folder")


def test_stages_are_no_part_of_one_stages_experiment() -> None:
    others = TrainingOptions(stages=({"name": "other"},), stop_after="other")
    check_same(describe(), describe(others), "folder")
