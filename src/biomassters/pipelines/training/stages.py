"""Stages of training one after another: what each starts from, and what came of it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from biomassters.chips.bands import BAND_NAMES
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore, StoreSplit
from biomassters.console import part
from biomassters.datasets.network_weights import NetworkWeights, joint_weights, load_weights
from biomassters.errors import BadInputError
from biomassters.network.options import NetworkOptions
from biomassters.training.options import START_BEST, START_NEW, StageOptions, TrainingOptions

if TYPE_CHECKING:
    from torch import Tensor

    from biomassters.training.state import TrainingResult

_EVERY_LABEL = "not available: trained on every labelled chip"
_PERHAPS_SEEN = "not available: it started from weights that may have seen every labelled chip"


@dataclass(frozen=True, eq=False)
class Start:
    """Weights that a network of a stage begins with.

    Attributes:
        state: State dict; None: new random ones.
        unseen: Whether it has seen no chip of the fold that its network holds out.
    """

    state: "dict[str, Tensor] | None" = None
    unseen: bool = True


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

    def start(self, which: str) -> Start:
        """What the next stage begins with: the last or the best weights."""
        return Start(self.kept(which).state, "validation_note" not in self.description)


@dataclass(frozen=True, eq=False)
class StageRunner:
    """All that the stages share.

    Attributes:
        chip_store: The chips.
        folds: Their folds.
        scaling: Of the bands, which new networks take over.
        network: The architecture.
        training: The stages.
        checkpoints: Folder with one folder a stage and network.
        events: The same of TensorBoard's event files.
        on_validation: As for ``train``.
    """

    chip_store: ChipStore
    folds: pd.DataFrame
    scaling: BandScaling
    network: NetworkOptions
    training: TrainingOptions
    checkpoints: Path
    events: Path
    on_validation: Callable[[float], object] | None = None

    def run(self) -> tuple[NetworkWeights, NetworkWeights, pd.DataFrame]:
        """Every stage resumed, found finished, or trained.

        Returns:
            The weights of the last stage that holds out a fold (of the last one where none does),
            those of the last stage, and the history of all.
        """
        split = self.chip_store.split("train")
        runs = self.training.active_stages()
        counts = _networks(runs, self.training)
        fit: list[TrainedNetwork] | None = None
        networks: list[TrainedNetwork] = []
        histories: list[pd.DataFrame] = []
        for number, stage in enumerate(runs):
            options = self.training.of_stage(stage)
            starts, started_from = self._starts(stage, networks, counts[number])
            check_window(self.network.backbone, split, options)
            before = sum(counts[:number])
            networks = []
            for index, start in enumerate(starts):
                with part(before + index, sum(counts)):
                    networks.append(self._train(stage, options, index, start, started_from))
            fit = networks if options.folds or fit is None else fit
            histories.append(_stage_history(stage.name, networks, histories))
        assert fit is not None, "checked: a stage has epochs"
        return self._kept(fit), self._kept(networks), pd.concat(histories, ignore_index=True)

    def _kept(self, networks: Sequence[TrainedNetwork]) -> NetworkWeights:
        """The weights that the options keep of a stage, as one; the networks take them over."""
        members = [one.kept(self.training.keep) for one in networks]
        for member in members:
            member.network.cpu().load_state_dict(member.state or {})
        return joint_weights(members)

    def _starts(
        self, stage: StageOptions, before: Sequence[TrainedNetwork], count: int
    ) -> tuple[list[Start], dict[str, Any] | None]:
        """What each network begins with, and the nearest weights before with held-out chips."""
        if stage.start == START_NEW:
            return [Start()] * count, None
        if stage.weights_file is None:
            which = "best" if stage.start == START_BEST else "last"
            told = before[0].description
            has_held_out = told["held_out_fold"] is not None
            nearest = as_start(self._kept(before)) if has_held_out else told["started_from"]
            return [network.start(which) for network in before], nearest
        weights = load_weights(stage.weights_file)
        members = weights.members or (weights,) * count
        if len(members) != count:
            raise BadInputError(
                f"training.stages: {stage.weights_file} holds {len(members)} networks, but stage "
                f"{stage.name} trains {count}: name a file of one, or of as many as training.folds."
            )
        folds = self.training.of_stage(stage).folds or (None,) * count
        starts = [
            Start(self._state_of(member, stage.weights_file), self._unseen(member, fold))
            for member, fold in zip(members, folds, strict=True)
        ]
        return starts, as_start(weights)

    def _state_of(self, weights: NetworkWeights, file: str) -> "dict[str, Tensor]":
        """The weights of a file, with the chips' own scaling where that is wanted.

        Raises:
            BadInputError: They are another network, or have another scaling than the chips.
        """
        from biomassters.training.train import new_network

        theirs, ours = weights.first.scaling, self.scaling
        if self.training.start_scaling == "weights" and theirs != ours:
            bands = [band for band in BAND_NAMES
                     if (theirs.minimum[band], theirs.maximum[band])
                     != (ours.minimum[band], ours.maximum[band])]  # fmt: skip
            raise BadInputError(
                f"{file} scales {len(bands)} of {len(BAND_NAMES)} bands otherwise than these chips "
                f"({bands[0]}: {theirs.minimum[bands[0]]:g} to {theirs.maximum[bands[0]]:g}, chips "
                f"{ours.minimum[bands[0]]:g} to {ours.maximum[bands[0]]:g}): set "
                "data_engineering.scaling to what it was trained with, or keep the chips' own on "
                "purpose with training.start_scaling=chips."
            )
        plain = self.network.model_copy(update={"pretrained": False})
        network = new_network(plain, ours, self.training.seed)
        own = {key: one for key, one in network.state_dict().items() if key.startswith("scaler.")}
        state = {**weights.first.state_dict(), **own}
        try:
            network.load_state_dict(state)
        except RuntimeError:
            told = weights.first.options
            raise BadInputError(
                f"{file} is another network than the parameters describe: set network.backbone="
                f"{weights.first.encoder.backbone}, network.decoder_channels="
                f"{list(told.decoder_channels)} and network.scse={str(told.scse).lower()}."
            ) from None
        return state

    def _unseen(self, weights: NetworkWeights, fold: int | None) -> bool:
        """Whether weights from a file surely haven't seen a fold: it was theirs, or other data.

        The number of a fold alone says nothing: folds may have been made in another way.
        """
        known, trained_on = weights.description, weights.trained_on or {}
        if known.get("data_fingerprint") is None:
            return False
        if known["data_fingerprint"] == self.chip_store.fingerprint:
            held_out = known.get("held_out_chips")
            return held_out is not None and held_out == self._held_out_chips(fold)
        return trained_on.get("dataset") not in (None, self.chip_store.origin.get("dataset"))

    def _held_out_chips(self, fold: int | None) -> str | None:
        """Fingerprint of which chips a fold holds."""
        if fold is None:
            return None
        chips = sorted(self.folds.loc[self.folds["fold"] == fold, "chip_id"])
        return hashlib.sha256("\n".join(chips).encode()).hexdigest()[:16]

    def _train(
        self,
        stage: StageOptions,
        options: TrainingOptions,
        index: int,
        start: Start,
        started_from: dict[str, Any] | None,
    ) -> TrainedNetwork:
        from biomassters.training.train import new_network, train
        from biomassters.training.validation import chips_of_folds

        fold = options.folds[index] if options.folds else None
        options = options.model_copy(update={"folds": () if fold is None else (fold,)})
        network = new_network(self.network, self.scaling, options.seed)
        split = self.chip_store.split("train")
        name = f"network_{index}" if fold is None else f"fold_{fold}"
        training, validation = chips_of_folds(split, self.folds, fold)
        result = train(
            network,
            split,
            training,
            validation,
            options,
            self.checkpoints / stage.name / name,
            fingerprint=self.chip_store.fingerprint,
            initial_state=start.state,
            event_dir=self.events / stage.name / name,
            on_validation=self.on_validation,
        )
        held_out = fold if start.unseen else None
        note = _EVERY_LABEL if fold is None else _PERHAPS_SEEN
        lineage = {
            "trained_on": trained_on(self.chip_store, len(training)),
            "started_from": started_from,
            "stage": stage.name,
            "held_out_chips": self._held_out_chips(held_out),
            **({} if held_out is not None else {"validation_note": note}),
        }
        told = described(self.chip_store, held_out, options)
        return TrainedNetwork(network, told | lineage, result)


def _networks(stages: Sequence[StageOptions], training: TrainingOptions) -> list[int]:
    """How many networks each stage trains: one a fold held out, or as many as it starts from."""
    counts: list[int] = []
    for stage in stages:
        folds = len(training.of_stage(stage).folds)
        goes_on = stage.start != START_NEW and stage.weights_file is None
        counts.append(folds or (counts[-1] if goes_on else 1))
    return counts


def check_window(backbone: str, split: StoreSplit, options: TrainingOptions) -> None:
    """Refuse crops or chips that would leave parts of a backbone's kernels untrained.

    Raises:
        BadInputError: They are too small.
    """
    from biomassters.network import window

    null = options.crop is None
    what = "training.crop is null and the chips have" if null else "training.crop is"
    window.check_window(backbone, _window(split, options), what)


def described(chip_store: ChipStore, fold: int | None, options: TrainingOptions) -> dict[str, Any]:
    """What is to be known of weights: their data, what they never saw, how they were made."""
    split = chip_store.split("train")
    return {
        "data_fingerprint": chip_store.fingerprint,
        "held_out_fold": fold,
        "chip_size": max(split.height, split.width),
        "window": _window(split, options),
        "recipe": options.model_dump(mode="json", exclude={"stages", "stop_after"}),
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


def _stage_history(
    stage: str, networks: Sequence[TrainedNetwork], before: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """History and timing of a stage's networks, a row an epoch, counted on over the stages."""
    done = sum(int(history["stage_epoch"].max()) for history in before)
    frames = [
        one.result.history.merge(one.result.timing, on="epoch").assign(
            held_out_fold=one.description["held_out_fold"], stage=stage
        )
        for one in networks
    ]
    history = pd.concat(frames, ignore_index=True)
    return history.assign(stage_epoch=history["epoch"], epoch=history["epoch"] + done)
