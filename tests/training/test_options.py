import subprocess
import sys

import pytest
from pydantic import ValidationError

from biomassters.loading.options import AugmentationOptions
from biomassters.training.options import TrainingOptions


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rate": 0.0}, "give a positive number"),
        ({"learning_rate": -1e-3}, "give a positive number"),
        ({"learning_rate": float("nan")}, "give a positive number"),
        ({"crop": 100}, "use 96 or 128"),
        ({"crop": 8}, "use 32 or 64"),
        ({"crop": 0}, "use 32 or 64"),
        ({"batch_size": 8, "gradient_accumulation": 3}, "use a divisor"),
        ({"final_learning_rate": 1.0}, "lower the final one"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"loss_limit_mg_per_ha": 0}, "greater than 0"),
        ({"ema_decay": 1.0}, "less than 1"),
        ({"validation_views": ()}, "at least 1 item"),
        ({"validation_views": ("mirror",)}, "identity"),
        ({"device": "gpu"}, "pattern"),
        ({"learning_rat": 1e-3}, "Extra inputs are not permitted"),
        ({"augmentation": {"month_drop_rate": 1.0}}, "less than 1"),
        ({"augmentation": {"rotation_range_deg": (45, -45)}}, "smaller one first"),
    ],
)
def test_a_bad_option_is_refused_with_the_remedy(given: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingOptions(**given)


def test_whole_chips_and_a_full_run_are_accepted() -> None:
    options = TrainingOptions(crop=None, folds=(), gradient_clip_norm=None)
    assert options.crop is None
    assert options.augmentation == AugmentationOptions()


def test_free_options_are_options() -> None:
    assert TrainingOptions.free_options <= set(TrainingOptions.model_fields)


def test_options_are_read_without_torch() -> None:
    code = "import sys, biomassters.training.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


FIT = {"name": "fit"}


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"name": "fit", "start": "last"}], "there is none with epochs"),
        ([{"name": "fit", "epochs": 0}, {"name": "b", "start": "best"}], "there is none with"),
        ([FIT, {"name": "fit"}], "two stages are called fit"),
        ([FIT, {"name": "b", "chips": "all", "start": "last"},
          {"name": "c", "chips": "all", "start": "best"}], "validates on nothing"),
        ([FIT, {"name": "b", "chips": "all", "start": "last"}, {"name": "c", "start": "last"}],
         "holds out a fold that b has learnt from"),
        ([FIT, {"name": "b", "learning_rate": 1e-4, "final_learning_rate": 1e-3}],
         "stage b: final_learning_rate 0.001 is above"),
        ([{"name": "fit", "epochs": 0}], "no stage has any epochs"),
        ([], "no stage has any epochs"),
        ([{"name": "../out"}], "pattern"),
        ([{"name": "fit", "epoch": 3}], "Extra inputs"),
    ],
)  # fmt: skip
def test_stages_that_do_not_follow_are_refused(stages: list, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingOptions(stages=stages)


def test_best_needs_a_fold_that_is_held_out() -> None:
    stages = [FIT, {"name": "b", "start": "best"}]
    assert TrainingOptions(stages=stages).active_stages()[1].start == "best"
    with pytest.raises(ValidationError, match="validates on nothing"):
        TrainingOptions(stages=stages, folds=())


def test_a_stage_says_what_differs_and_leaves_the_rest() -> None:
    stages = [FIT, {"name": "b", "epochs": 3, "learning_rate": 1e-4, "final_learning_rate": 1e-5,
                    "chips": "all", "start": "last", "restart": True}]  # fmt: skip
    options = TrainingOptions(stages=stages, final_learning_rate=1e-3, folds=(0, 1))
    fit, second = (options.of_stage(stage) for stage in options.active_stages())
    assert (fit.epochs, fit.learning_rate, fit.final_learning_rate) == (18, 5e-3, 1e-3)
    assert (fit.folds, fit.restart) == ((0, 1), False)
    assert (second.epochs, second.learning_rate, second.final_learning_rate) == (3, 1e-4, 1e-5)
    assert (second.folds, second.restart, second.batch_size) == ((), True, 8)


def test_stages_of_no_epochs_and_those_after_the_last_are_left_out() -> None:
    stages = [{"name": "a", "epochs": 0}, {"name": "b"}, {"name": "c", "start": "last"}]
    options = TrainingOptions(stages=stages, stop_after="b")
    assert [stage.name for stage in options.active_stages()] == ["b"]
    with pytest.raises(ValidationError, match=r"stop_after names the stage d.*among a, b, c"):
        TrainingOptions(stages=stages, stop_after="d")
