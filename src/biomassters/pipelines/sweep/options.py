"""Options of a sweep: which parameters vary, how far, and at what cost; checked without Optuna."""

from collections.abc import Iterator, Mapping
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
    def _has_something_to_vary(self) -> Self:
        if self.choices:
            if self.low is not None or self.high is not None:
                raise ValueError(f"{self.name} has choices and a range; give one of them")
            if len(set(map(repr, self.choices))) < 2:
                raise ValueError(f"{self.name} has a single choice; give another, or leave it out")
            return self
        if self.low is None or self.high is None:
            raise ValueError(f"{self.name} has no range; give low and high, or choices")
        if not self.low < self.high:
            raise ValueError(
                f"the range of {self.name}, {self.low} to {self.high}, is empty; low must be less "
                "than high"
            )
        if self.log and self.low <= 0:
            raise ValueError(
                f"{self.name} is tried by powers, but begins at {self.low}; begin above 0, or set "
                "log to false"
            )
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        """The choices, or both ends of the range."""
        return self.choices or (self.low, self.high)


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


def with_values(
    network: NetworkOptions, training: TrainingOptions, values: Mapping[str, Any]
) -> tuple[NetworkOptions, TrainingOptions]:
    """Options with other values, by dotted name.

    Raises:
        BadInputError: They don't fit.
    """
    changed = {"network": network.model_dump(), "training": training.model_dump()}
    for name, value in values.items():
        *outer, last = name.split(".")
        inner: dict[str, Any] = changed
        for part in outer:
            inner = inner[part]
        inner[last] = value
    return (
        NetworkOptions.model_validate(changed["network"]),
        TrainingOptions.model_validate(changed["training"]),
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
    tree = {"network": network.model_dump(), "training": training.model_dump()}
    inner = {name.rpartition(".")[0] for name in dotted_names(tree)}
    known = set(dotted_names(tree)) - inner
    names = [parameter.name for parameter in sweep.parameters]
    for parameter in sweep.parameters:
        name = parameter.name
        if names.count(name) > 1:
            yield f"sweep.parameters names {name} twice: name it once."
        elif name not in known:
            yield (
                f"sweep.parameters names '{name}', which is no parameter of training or network; "
                f"{hint(name, known)}"
            )
        else:
            for value in parameter.ends:
                try:
                    with_values(network, training, {name: value})
                except BadInputError as error:
                    yield f"sweep.parameters: {name} can't be {value}: {error}"
