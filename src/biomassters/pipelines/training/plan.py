"""What a stage of training starts from, and what came of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from biomassters.chips.bands import BAND_NAMES
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore, StoreSplit
from biomassters.datasets.network_weights import NetworkWeights, NetworkWeightsDataset
from biomassters.errors import BadInputError
from biomassters.network.options import NetworkOptions
from biomassters.training.options import TrainingOptions

if TYPE_CHECKING:
    from biomassters.training.state import TrainingResult


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

    def check_window(self, split: StoreSplit) -> None:
        """Refuse crops or chips that would leave parts of the networks' kernels untrained.

        Raises:
            BadInputError: They are too small.
        """
        from biomassters.network.window import check_window

        assert self.options is not None
        what = (
            "training.crop is null and the chips have"
            if self.options.crop is None
            else "training.crop is"
        )
        for backbone in {start.first.encoder.backbone for start in self.starts}:
            check_window(backbone, _window(split, self.options), what)

    def check_unseen(self, chip_store: ChipStore) -> None:
        """Refuse to hold out chips that the weights were trained on before.

        Which of them these never saw can't be told: folds of one number may be of two kinds.

        Raises:
            BadInputError: They were trained on this chip store.
        """
        known = (self.started_from or {}).get("trained_on") or {}
        if self.folds() == (None,) * len(self.starts):
            return
        if known.get("data_fingerprint") == chip_store.fingerprint:
            raise BadInputError(
                "training.start_from_weights names weights that were trained on these chips, so "
                "the held-out ones would flatter them: start without (null), or go on learning "
                "with finetuning.epochs."
            )


def start_from_weights(
    training: TrainingOptions, network: NetworkOptions, scaling: BandScaling
) -> tuple[list[NetworkWeights], dict[str, Any]]:
    """Networks that begin with weights, one for each fold held out, and what these were.

    Args:
        training: Which weights, which scaling, which folds.
        network: What the networks must be.
        scaling: Of the chips.

    Raises:
        BadInputError: The weights can't be read, are several networks or another one, or have
            another scaling than the chips.
    """
    from biomassters.training.train import new_network

    assert training.start_from_weights is not None
    name = f"training.start_from_weights: {training.start_from_weights}"
    weights = NetworkWeightsDataset(filepath=training.start_from_weights).load()
    if weights.members:
        raise BadInputError(f"{name} are several networks: name one of {', '.join(weights.files)}.")
    theirs = weights.first.scaling
    if training.start_scaling == "weights" and theirs != scaling:
        bands = [band for band in BAND_NAMES
                 if (theirs.minimum[band], theirs.maximum[band])
                 != (scaling.minimum[band], scaling.maximum[band])]  # fmt: skip
        raise BadInputError(
            f"{name} scale {len(bands)} of {len(BAND_NAMES)} bands otherwise than these chips "
            f"({bands[0]}: {theirs.minimum[bands[0]]:g} to {theirs.maximum[bands[0]]:g}, chips "
            f"{scaling.minimum[bands[0]]:g} to {scaling.maximum[bands[0]]:g}): set "
            "data_engineering.scaling to what they were trained with, or keep the chips' own on "
            "purpose with training.start_scaling=chips."
        )
    starts = []
    for _ in training.folds or (None,):
        plain = network.model_copy(update={"pretrained": False})
        start = new_network(plain, scaling, training.seed)
        own = {key: value for key, value in start.state_dict().items() if key.startswith("scaler.")}
        try:
            start.load_state_dict({**weights.first.state_dict(), **own})
        except RuntimeError as error:
            told = weights.first.options
            raise BadInputError(
                f"{name} are another network than the parameters describe: set network.backbone="
                f"{weights.first.encoder.backbone}, network.decoder_channels="
                f"{list(told.decoder_channels)} and network.scse={str(told.scse).lower()}."
            ) from error
        starts.append(NetworkWeights(start))
    return starts, as_start(weights)


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

    def kept(self, keep: str) -> NetworkWeights:
        """The weights to go on with.

        Args:
            keep: ``last`` or ``best``; without validation the last are the best.
        """
        result, last = self.result, len(self.result.history)
        if keep == "last":
            epoch, state = last, result.last_state
        else:
            epoch, state = result.best_epoch or last, result.best_state
        scores = result.history.set_index("epoch")["validation_rmse_per_chip_mean"]
        validated = None if result.best_score is None else float(scores[epoch])
        found = {"epoch": epoch, "validation_rmse": validated}
        return NetworkWeights(self.network, {**self.description, **found}, state=state)


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
        "window": _window(split, options),
        "recipe": options.model_dump(mode="json"),
        **note,
    }


def trained_on(chip_store: ChipStore, chips: int) -> dict[str, Any]:
    """What a network is being trained on.

    Args:
        chip_store: The chips.
        chips: How many of them train.
    """
    return {
        "simulated": chip_store.origin.get("simulated"),
        "dataset": chip_store.origin.get("dataset"),
        "chips": chips,
        "data_fingerprint": chip_store.fingerprint,
        "date": datetime.now(UTC).date().isoformat(),
    }


def as_start(weights: NetworkWeights) -> dict[str, Any]:
    """What is to be known of weights that a further stage begins with."""
    return {"fingerprint": weights.fingerprint, "trained_on": weights.trained_on}


def _window(split: StoreSplit, options: TrainingOptions) -> int:
    """Side in pixels of what a network sees at once in training."""
    return options.crop or min(split.height, split.width)


def joint_history(networks: list[TrainedNetwork]) -> pd.DataFrame:
    """History and timing of all networks of a stage, a row an epoch, with their fold."""
    frames = [
        one.result.history.merge(one.result.timing, on="epoch").assign(
            held_out_fold=one.description["held_out_fold"]
        )
        for one in networks
    ]
    return pd.concat(frames, ignore_index=True)
