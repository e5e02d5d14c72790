"""Fine-tuning on a few labelled chips: how long, how fast, and what is held out, by their number.

The pipeline ``adapt`` trains with it. What else makes few chips enough are options of training that
``conf/few_chips`` sets: BatchNorm that keeps its statistics, and a start without the mean error.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from biomassters.options import Options
from biomassters.training.options import StageOptions, TrainingOptions

_EPOCHS = 10  # steps of the cosine, which falls once an epoch


class AdaptOptions(Options):
    """Fine-tuning on a few labelled chips; what is null follows from their number."""

    steps: int | None = Field(default=None, ge=1, description="Optimizer steps.")
    learning_rate: float | None = Field(
        default=None, gt=0.0, description="At the start; it falls to 0 as a cosine."
    )
    leave_out: bool = Field(
        default=True,
        description="First train a network without each chip (each fold, of more chips than folds) "
        "and score it there. What is trained on every chip has no score.",
    )


class Recipe(NamedTuple):
    """Optimizer steps, and the rate that they begin with."""

    steps: int
    learning_rate: float


# By the least number of chips; docs/few_chips.md says what was tried, and on what.
_RECIPES = {
    1: Recipe(40, 1e-3),
    2: Recipe(100, 1e-3),
    5: Recipe(200, 1e-3),
    20: Recipe(500, 1e-3),
    100: Recipe(1500, 2e-3),
}


def recipe_for(chips: int) -> Recipe:
    """Steps and rate for so many labelled chips, at least one."""
    return _RECIPES[max(least for least in _RECIPES if least <= chips)]


def few_chips_training(
    training: TrainingOptions, adapt: AdaptOptions, chips: int, folds: Sequence[int]
) -> TrainingOptions:
    """Options of a fine-tuning whose stages all begin with the same weights.

    ``training`` has what is not decided here, and names the weights that it starts from; ``adapt``
    is what was asked for. Of so many labelled chips, at least one, these are the folds.
    """
    recipe = recipe_for(chips)
    steps = adapt.steps or recipe.steps
    epochs = min(_EPOCHS, steps)
    samples = -(-steps * training.batch_size // epochs)  # an epoch's
    held_out = adapt.leave_out and len(folds) > 1
    stages = [StageOptions(name="without_a_fold")] if held_out else []
    changes = {
        "stages": [*stages, StageOptions(name="all_chips", chips="all")],
        "stop_after": None,
        "folds": list(folds) if held_out else [],
        "epochs": epochs,
        "crops_per_chip": -(-samples // chips),
        "drop_last": False,  # without a fold there may be fewer crops than one batch
        "learning_rate": adapt.learning_rate or recipe.learning_rate,
        "final_learning_rate": 0.0,
        "validate_every_epochs": epochs,
    }
    return TrainingOptions.model_validate(training.model_dump() | changes)
