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
