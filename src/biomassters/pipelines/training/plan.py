"""What a stage of training starts from, and what came of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from biomassters.chips.store_reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.training.options import TrainingOptions

if TYPE_CHECKING:
    from biomassters.training.result import TrainingResult


@dataclass(frozen=True, eq=False)
class StagePlan:
    """One stage of training: one network, or one for each held-out fold.

    Attributes:
        options: How to train; None leaves the weights as they are.
        starts: A network for each fold held out, or a single one.
        trained_before: Whether the networks bring weights of an earlier stage.
        started_from: Fingerprint and training of these weights.
    """

    options: TrainingOptions | None
    starts: tuple[NetworkWeights, ...]
    trained_before: bool
    started_from: dict[str, Any] | None = None

    def folds(self) -> tuple[int | None, ...]:
        """The fold that each network must not see; None: it sees all."""
        held_out = () if self.options is None else self.options.folds
        return held_out or (None,) * len(self.starts)


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network after a stage.

    Attributes:
        network: As the stage got it.
        description: What is to be known of any of its weights.
        result: What training came to.
    """

    network: Any
    description: dict[str, Any]
    result: "TrainingResult"

    def best(self) -> NetworkWeights:
        """The weights with the best validation; the last ones without one."""
        score, epoch = self.result.best_score, self.result.best_epoch
        found = {"epoch": epoch or len(self.result.history), "validation_rmse": score}
        return NetworkWeights(
            self.network, {**self.description, **found}, state=self.result.best_state
        )

    def last(self) -> NetworkWeights:
        """The weights after the last epoch."""
        epoch = {"epoch": len(self.result.history)}
        return NetworkWeights(
            self.network, {**self.description, **epoch}, state=self.result.last_state
        )


def described(chip_store: ChipStore, fold: int | None, options: TrainingOptions) -> dict[str, Any]:
    """What is to be known of weights: their data, what they never saw, how they were made."""
    split = chip_store.split("train")
    note = {} if fold is not None else {
        "validation_note": "not available: trained on every labelled chip"
    }  # fmt: skip
    return {
        "data_fingerprint": chip_store.fingerprint,
        "held_out_fold": fold,
        "chip_size": max(split.height, split.width),
        "recipe": options.model_dump(mode="json"),
        **note,
    }


def joint_history(networks: list[TrainedNetwork]) -> pd.DataFrame:
    """History and timing of all networks of a stage, a row an epoch, with their fold."""
    frames = [
        one.result.history.merge(one.result.timing, on="epoch").assign(
            held_out_fold=one.description["held_out_fold"]
        )
        for one in networks
    ]
    return pd.concat(frames, ignore_index=True)
