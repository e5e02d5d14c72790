"""Options of a sweep: which parameters vary, how far, and at what cost; checked without Optuna."""

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any, Self

from pydantic import Field, model_validator

from biomassters.conf_files import dotted_names
from biomassters.errors import BadInputError
from biomassters.messages import hint
from biomassters.network.options import NetworkOptions
from biomassters.options import Options
from biomassters.training.options import TrainingOptions

Value = str | int | float | bool | None


class SweepParameter(Options):
    """A parameter that varies: from low to high, or among choices."""

    name: str = Field(description="As on the command line: training.… or network.…")
    low: int | float | None = Field(default=None, description="Least value.")
    high: int | float | None = Field(
        default=None,
        description="Greatest value; where both are whole numbers, and the option isn't a fraction "
        "now, whole numbers are tried.",
    )
    log: bool = Field(
        default=False, description="Try powers evenly, as for rates: 0.001 as often as 0.01."
    )
    choices: tuple[Value, ...] = Field(
        default=(), description="Values, in the place of low and high; a list is written a/b."
    )

    @model_validator(mode="after")
    def _varies(self) -> Self:
        name, low, high = self.name, self.low, self.high
        if self.choices:
            if (low, high) != (None, None):
                raise ValueError(f"{name} has choices and a range; give one of them")
            if len(set(map(repr, self.choices))) < 2:
                raise ValueError(f"{name} has a single choice; give another, or leave it out")
        elif low is None or high is None:
            raise ValueError(f"{name} has no range; give low and high, or choices")
        elif not low < high:
            raise ValueError(
                f"the range of {name}, {low} to {high}, is empty; low must be less than high"
            )
        elif self.log and low <= 0:
            raise ValueError(
                f"{name} is tried by powers, but begins at {low}; begin above 0, or set log to "
                "false"
            )
        return self


class SweepOptions(Options):
    """A study of training parameters, judged by held-out chips."""

    parameters: tuple[SweepParameter, ...] = Field(
        default=(
            SweepParameter(name="training.learning_rate", low=0.001, high=0.02, log=True),
            SweepParameter(name="training.weight_decay", low=0.0001, high=0.1, log=True),
            SweepParameter(name="training.augmentation.rotation_probability", low=0.0, high=1.0),
        ),
        min_length=1,
        description="What varies; all other parameters are as they are.",
    )
    trials: int = Field(
        default=20, ge=1, description="Trainings in all, of all processes that share the study."
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="After so many no further training begins in this process; null: no limit.",
    )
    pruning: bool = Field(
        default=True,
        description="Stop a training whose held-out RMSE is above the median of earlier ones at "
        "the same validation, once there are five.",
    )
    seed: int = Field(default=20230126, ge=0, lt=2**32, description="Of the choices.")


def option_tree(network: NetworkOptions, training: TrainingOptions) -> dict[str, Any]:
    """What can vary, nested."""
    return {"network": network.model_dump(), "training": training.model_dump()}


def with_values(
    network: NetworkOptions, training: TrainingOptions, values: Mapping[str, Any]
) -> tuple[NetworkOptions, TrainingOptions]:
    """Options with other values, by dotted name.

    Raises:
        BadInputError: They don't fit.
    """
    tree = option_tree(network, training)
    for name, value in values.items():
        *outer, last = name.split(".")
        reduce(getitem, outer, tree)[last] = value
    return (
        NetworkOptions.model_validate(tree["network"]),
        TrainingOptions.model_validate(tree["training"]),
    )


def sweep_faults(
    sweep: SweepOptions, network: NetworkOptions, training: TrainingOptions
) -> Iterator[str]:
    """A sentence for everything that would go wrong in a trial, as far as options show it."""
    if not training.folds:
        yield "A sweep is judged by held-out chips, and training.folds is empty: name a fold."
    if training.world_size > 1:
        yield (
            f"A trial of a sweep is one process, and training.world_size is {training.world_size}: "
            "set it to 1, and start the same command once a GPU."
        )
    names = set(dotted_names(option_tree(network, training)))
    known = names - {name.rpartition(".")[0] for name in names}
    varied = [parameter.name for parameter in sweep.parameters]
    for name in sorted({name for name in varied if varied.count(name) > 1}):
        yield f"sweep.parameters names {name} twice: name it once."
    for parameter in sweep.parameters:
        name = parameter.name
        if name not in known:
            yield (
                f"sweep.parameters names '{name}', which is no parameter of training or network; "
                f"{hint(name, known)}"
            )
            continue
        for value in parameter.choices or (parameter.low, parameter.high):
            try:
                with_values(network, training, {name: value})
            except BadInputError as error:
                yield f"sweep.parameters: {name} can't be {value}: {error}"
